"""The conventions by which a metric becomes a number, each with its name and a sentence; every output names them."""

from dataclasses import dataclass, fields

from nnunet_sfma.errors import UserError

TEXTS = {
    "empty": {
        "nnunet": "What is 0/0 has no value and is left out of the means, as in nnU-Net; distances have none where "
        "prediction or label is empty.",
        "challenge": "Prediction and label both empty score 1 (distance 0); where only one is empty, overlaps are 0 "
        "and distances the diagonal of the image.",
        "transunet": "TransUNet's rule: a prediction on an empty label scores 1, an empty prediction 0, whatever the "
        "label; distances are 0 in both cases.",
    },
    "average": {
        "volume": "Overlaps are computed for whole volumes, then averaged over cases.",
        "slice": "Overlaps are computed slice by slice and averaged over the slices of all cases; a case's own value "
        "is the mean over its slices. Distances, lesions and volumes stay those of whole volumes.",
    },
    "miou": {
        "foreground": "mIoU is the mean over the foreground classes.",
        "with-background": "mIoU is the mean over all classes, background included.",
    },
    "f1": {
        "mean-of-f1": "F1 is computed for each case (where it equals Dice), then averaged.",
        "f1-of-means": "F1 of a class is computed from its mean precision and mean recall; that of the classes is the "
        "mean of theirs.",
    },
    "distances": {
        "mm": "Distances are in mm, by the spacing of the label file.",
        "voxel": "Distances are in voxels, as much of the literature reports them.",
    },
}
IGNORE = (
    "Voxels with the ignore label count for nothing. Surfaces, lesions, objects and volumes of what is left end where "
    "annotation ends, so their metrics are left out: only overlaps are measured."
)


@dataclass(frozen=True)
class Conventions:
    """What the user chose; the defaults are nnU-Net's.

    Attributes:
        empty: ``nnunet``, ``challenge`` or ``transunet``.
        average: ``volume`` or ``slice``.
        miou: ``foreground`` or ``with-background``.
        f1: ``mean-of-f1`` or ``f1-of-means``.
        distances: ``mm`` or ``voxel``.
        nsd_tolerance: of the normalised surface distance, in that unit, from 0 on.
    """

    empty: str = "nnunet"
    average: str = "volume"
    miou: str = "foreground"
    f1: str = "mean-of-f1"
    distances: str = "mm"
    nsd_tolerance: float = 1.0

    def __post_init__(self):
        for name, options in TEXTS.items():
            if getattr(self, name) not in options:
                raise UserError(f"There is no convention {name}={getattr(self, name)}: choose {' or '.join(options)}.")
        if not 0 <= self.nsd_tolerance < float("inf"):
            raise UserError(f"The tolerance of NSD is a distance from 0 on, got {self.nsd_tolerance}.")

    def __str__(self) -> str:
        return ", ".join(f"{field.name}={_short(getattr(self, field.name))}" for field in fields(self))

    def texts(self, ignoring: bool = False) -> dict[str, str]:
        """One sentence for each convention; ``ignoring`` if the data set has nnU-Net's ignore label."""
        sentences = {name: options[getattr(self, name)] for name, options in TEXTS.items()}
        unit = self.distances if self.distances == "mm" else "voxels"
        tolerance = f"NSD counts surface voxels within {_short(self.nsd_tolerance)} {unit} of the other surface."
        return {**sentences, **({"ignore": IGNORE} if ignoring else {"nsd_tolerance": tolerance})}


def _short(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"
