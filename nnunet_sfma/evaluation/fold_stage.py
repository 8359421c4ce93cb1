"""How far a fold is, from the files that nnU-Net leaves in its folder."""

from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from nnunet_sfma.trainers.checkpoints import BEST, FINAL, LATEST, PREVIOUS

CHECKPOINTS = (FINAL, LATEST, PREVIOUS, BEST)


class Stage(Enum):
    """The stages of a fold, in their order."""

    NOT_TRAINED = "not trained"
    INTERRUPTED = "interrupted"
    TRAINED = "trained, not validated"
    FINISHED = "finished"


def is_begun(folder: Path) -> bool:
    """Whether a fold has a checkpoint."""
    return any((folder / name).is_file() for name in CHECKPOINTS)


def fold_stage(folder: Path, cases: Sequence[str], ending: str) -> Stage:
    """The stage of a fold; one that is being trained at the moment looks like an interrupted one.

    Args:
        folder: nnU-Net's folder of the fold; it need not be there.
        cases: identifiers of the validation cases.
        ending: of their predictions.
    """
    if not is_begun(folder):
        return Stage.NOT_TRAINED
    if not (folder / FINAL).is_file():
        return Stage.INTERRUPTED
    # nnU-Net writes the summary when all predictions are on the disk; before, the last ones may be cut off
    validation = folder / "validation"
    wanted = [validation / "summary.json", *(validation / f"{case}{ending}" for case in cases)]
    return Stage.FINISHED if all(path.is_file() for path in wanted) else Stage.TRAINED
