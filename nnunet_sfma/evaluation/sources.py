"""What can be evaluated: the folds of a cross-validation, or a folder of predictions with labels."""

import contextlib
import io
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.conventions import Conventions
from nnunet_sfma.evaluation.measure import EvaluatedCase, Measuring, has_millimetres, reader_class
from nnunet_sfma.file_names import refuse_unreadable_names
from nnunet_sfma.json_files import STRINGS, read_json, valid
from nnunet_sfma.nnunet_files import read_dataset_json, read_plans
from nnunet_sfma.planning.slice_axis import ARRAY_AXES
from nnunet_sfma.prediction.resized import RESIZED
from nnunet_sfma.sentences import first_few, last_line, shortened
from nnunet_sfma.split_record import read_split_record

PROVENANCE_ADVICE = "convert the data set again"
PROVENANCE = {
    "type": "object",
    "required": ["cases", "options"],
    "properties": {
        "cases": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["subject"],
                "properties": {"subject": {"type": "string"}, "slices": STRINGS},
            },
        },
        "options": {"type": ["object", "null"]},
        "command": {"type": ["string", "null"]},
    },
}


@dataclass(frozen=True)
class Source:
    """Cases to evaluate, and what is known of their origin; see ``evaluation.json``.

    Attributes:
        name: how tables call the model.
        output: where the evaluation goes if the user does not say.
        cases: with a prediction and a label.
        dataset_json: of the model or the predictions.
        plans: nnU-Net's, if they are there.
        configuration: of the plans.
        trainer, model_folder: of a cross-validation.
        split: what is known of the division.
        folds: state and training log of each fold.
        missing: sentences on what is not there; no mean is taken then.
        subset: whether only some folds were asked for.
        raw: the data set in nnUNet_raw, if it is there.
        images: folder of the images, if it is known.
    """

    name: str
    output: Path
    cases: list[EvaluatedCase]
    dataset_json: dict
    plans: dict | None = None
    configuration: str | None = None
    trainer: str | None = None
    model_folder: Path | None = None
    split: dict = field(default_factory=dict)
    folds: list[dict] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    subset: bool = False
    raw: Path | None = None
    images: Path | None = None

    @property
    def dataset_name(self) -> str:
        """As the plans, the folder in nnUNet_raw or dataset.json give it."""
        if self.plans:
            return self.plans["dataset_name"]
        if self.raw:
            return self.raw.name
        # nobody has checked this name: in tables it is one short line
        name = "".join(sign if sign.isprintable() else " " for sign in str(self.dataset_json.get("name") or ""))
        return shortened(" ".join(name.split())) or "unnamed data set"

    @cached_property
    def provenance(self) -> dict:
        """What a conversion of ours tells of the data set; empty for others."""
        return _provenance(self.raw)

    def resolved(self) -> dict | None:
        """The plan's configuration, whole."""
        if not self.plans or self.configuration not in self.plans["configurations"]:
            return None
        return PlansManager(self.plans).get_configuration(self.configuration).configuration

    def measuring(self, conventions: Conventions) -> Measuring:
        """How its cases are measured.

        Raises:
            UserError: if the data set's description is not what nnU-Net wants, or the first label cannot be read.
        """
        example = self.cases[0].reference
        reader = self._reader(example)
        try:
            labels = self.dataset_json["labels"]
            ignore = LabelManager(labels, self.dataset_json.get("regions_class_order")).ignore_label
            classes = classes_of(self.dataset_json)
        except Exception as error:  # nnU-Net asserts and looks up as it goes
            raise UserError(
                f"The dataset.json of {self.name} is not what nnU-Net wants ({error!r}): give the data set's own."
            ) from None
        if not classes or "mean" in classes:
            raise UserError(f"The dataset.json of {self.name} needs classes, and none of them can be called 'mean'.")
        picture = not has_millimetres(example, reader, self.resized.get("spacing"))
        return Measuring(
            classes=classes,
            ignore_label=ignore,
            reader=reader,
            picture=picture,
            distances="voxel" if picture else conventions.distances,
            tolerance=conventions.nsd_tolerance,
            slice_axis=0 if picture else self._slice_axis,
        )

    @property
    def _slice_axis(self) -> int:
        """Of the array (z, y, x): that along which a conversion of ours cut the volumes, or else nnU-Net does."""
        if "slices_along" in self.resized:
            return ARRAY_AXES[self.resized["slices_along"]]
        return self.plans["transpose_forward"][0] if self.plans else 0

    @property
    def resized(self) -> dict:
        """What dataset.json says of how a conversion of ours resized the images; empty if it did not."""
        entry = self.dataset_json.get("resized")
        return entry if valid(entry, RESIZED) else {}

    def _reader(self, example: Path) -> str:
        """The name of nnU-Net's choice, which depends on what can read the file."""
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # nnU-Net prints what the readers raise
                found = determine_reader_writer_from_dataset_json(self.dataset_json, str(example), verbose=False)
            return reader_class(found.__name__).__name__
        except Exception as error:  # nnU-Net asserts and looks up as it goes
            chosen = self.dataset_json.get("overwrite_image_reader_writer")
            why = f"; dataset.json asks for {chosen}" if chosen else ""
            raise UserError(
                f"{example} cannot be read by any reader of nnU-Net ({last_line(error)}{why}): make it again, or give "
                "another dataset.json."
            ) from None

    def images_of(self, case: str) -> list[Path]:
        """The image files of a case, as far as they are known."""
        return self._images.get(case, [])

    @cached_property
    def _images(self) -> dict[str, list[Path]]:
        """By case; nnU-Net's own listing starts a dozen processes each time it is called."""
        by_case = defaultdict(list)
        image = re.compile(rf"(.+)_\d{{4}}{re.escape(self.dataset_json['file_ending'])}")
        for path in sorted(self.images.iterdir()) if self.images and self.images.is_dir() else []:
            if match := image.fullmatch(path.name):
                by_case[match[1]].append(path)
        return by_case


def classes_of(dataset_json: Mapping) -> dict[str, tuple[int, ...]]:
    """The foreground classes or regions by name, each with its labels."""
    return {
        name: tuple(label) if isinstance(label, (list, tuple)) else (label,)
        for name, label in dataset_json["labels"].items()
        if name not in ("background", "ignore") and label not in (0, [0])
    }


def from_folder(predictions: Path, labels: Path, dataset_json: Path | None = None) -> Source:
    """A folder of predictions and one of labels, file for file.

    Args:
        predictions: as ``nnUNetv2_predict`` leaves it, with ``dataset.json`` and ``plans.json``.
        labels: files named like the predictions.
        dataset_json: where the predictions have none.

    Raises:
        UserError: if a folder or description is not there, nothing is predicted, or the two hold different cases.
    """
    predictions, labels = predictions.absolute(), labels.absolute()
    for folder in (predictions, labels):
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder}: give predictions with -i and their labels with -l.")
    description = _description(predictions, dataset_json)
    ending = description["file_ending"]
    predicted, labelled = (_identifiers(folder, ending) for folder in (predictions, labels))
    _refuse_unpaired(predictions, labels, predicted, labelled, ending)
    plans = read_plans(predictions / "plans.json") if (predictions / "plans.json").is_file() else None
    raw = _raw_folder(labels, plans)
    cases = [
        EvaluatedCase(
            case=case,
            fold=None,
            prediction=predictions / f"{case}{ending}",
            reference=labels / f"{case}{ending}",
            instances=_instances(raw, f"{case}{ending}"),
            probabilities=if_there(predictions / f"{case}.npz"),
        )
        for case in sorted(predicted)
    ]
    images = labels.with_name(labels.name.replace("labels", "images", 1))
    return Source(
        name=predictions.resolve().name,
        output=predictions / "evaluation",
        cases=cases,
        dataset_json=description,
        plans=plans,
        configuration=_only_configuration(plans) if plans else None,
        split=_split(labels, plans, _pieces(predicted, raw)),
        raw=raw,
        images=images if images != labels else None,
    )


def _raw_folder(labels: Path, plans: dict | None) -> Path | None:
    """The data set in nnUNet_raw: around the labels, or by the name in the plans."""
    beside = labels.resolve().parent
    if labels.name.startswith("labels") and (beside / "dataset.json").is_file():
        return beside
    if plans is None or not os.environ.get("nnUNet_raw"):
        return None
    named = Path(os.environ["nnUNet_raw"], plans["dataset_name"])
    return named if named.is_dir() else None


def _provenance(raw: Path | None) -> dict:
    path = raw / "provenance.json" if raw else None
    return read_json(path, PROVENANCE, advice=PROVENANCE_ADVICE) if path and path.is_file() else {}


def _pieces(cases: set[str], raw: Path | None) -> set[str]:
    """nnU-Net's cases: the slices of those that are volumes and were cut."""
    entries = _provenance(raw).get("cases", {})
    return {piece for case in cases for piece in entries.get(case, {}).get("slices", [case])}


def _instances(raw: Path | None, name: str) -> Path | None:
    folders = [raw / f"instances{part}" for part in ("Tr", "Ts")] if raw else []
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _split(labels: Path, plans: dict | None, cases: set[str]) -> dict:
    """What is known of the split; its record counts if the plans lead to one that has these test cases."""
    split = {"part": "test" if labels.name == "labelsTs" else "predictions"}
    preprocessed = os.environ.get("nnUNet_preprocessed")
    record = read_split_record(Path(preprocessed, plans["dataset_name"])) if plans and preprocessed else None
    if record is None or set(record.test) != cases:
        return split
    return {**split, "sha256": record.sha256, "scheme": record.scheme, "seed": record.seed, "source": record.source}


def _only_configuration(plans: dict) -> str | None:
    """The configuration that was trained, if the plans leave no choice."""
    names = list(plans["configurations"])
    trained = [name for name in names if "training" in plans["configurations"][name]]
    return next((found[0] for found in (trained, names) if len(found) == 1), None)


def _description(predictions: Path, dataset_json: Path | None) -> dict:
    path = dataset_json or predictions / "dataset.json"
    if not path.is_file():
        raise UserError(f"There is no {path}: name the data set's dataset.json with -djfile.")
    return read_dataset_json(path)


def _identifiers(folder: Path, ending: str) -> set[str]:
    names = {path.name.removesuffix(ending) for path in folder.iterdir() if path.name.endswith(ending)}
    refuse_unreadable_names(folder, names)
    return names


def _refuse_unpaired(predictions: Path, labels: Path, predicted: set[str], labelled: set[str], ending: str) -> None:
    if not predicted:
        raise UserError(f"There are no predictions (*{ending}) in {predictions}: predict first, or check -i.")
    if not labelled:
        raise UserError(f"There are no labels (*{ending}) in {labels}: check -l.")
    without_label, without_prediction = sorted(predicted - labelled), sorted(labelled - predicted)
    if without_label:
        raise UserError(
            f"{len(without_label)} predictions in {predictions} have no label in {labels} "
            f"({first_few(without_label, 3)}): move them away, or name the right labels with -l."
        )
    if without_prediction:
        raise UserError(
            f"{len(without_prediction)} labels in {labels} have no prediction in {predictions} "
            f"({first_few(without_prediction, 3)}): predict them, or a mean would be over other cases."
        )


def if_there(path: Path) -> Path | None:
    """The path, if it is a file."""
    return path if path.is_file() else None
