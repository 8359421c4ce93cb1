"""A folder of predictions: its parts and its post-processing as jobs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nnunetv2.utilities.file_path_utilities import folds_tuple_to_string
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_sfma.crossval.images import find_cases
from nnunet_sfma.crossval.inputs import Inputs
from nnunet_sfma.crossval.models import Model, split_of
from nnunet_sfma.crossval.results import is_newer
from nnunet_sfma.crossval.stale import refuse_postprocessing_of_another_split
from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.sources import if_there
from nnunet_sfma.nnunet_files import channel_names, read_dataset_json, read_plans
from nnunet_sfma.nnunet_folders import dataset_name, nnunet_folder
from nnunet_sfma.sentences import first_few
from nnunet_sfma.split_record import SPLITS_FILE
from nnunet_sfma.trainers.checkpoints import FINAL
from nnunet_sfma.whole_files import remove_cut_off

DESCRIPTIONS = ("dataset.json", "plans.json")
BEFORE_POSTPROCESSING = "before_postprocessing"


@dataclass(frozen=True)
class Prediction:
    """What is predicted, by which model, from where and to where.

    Attributes:
        model: a trained one.
        folds: of the model; nnU-Net averages them.
        images: the folder that nnU-Net reads.
        output: the folder of the final predictions.
        cases: identifiers of all cases, in nnU-Net's order.
        device: what ``-device`` takes.
        processes: for what is done to cases before and after.
        postprocessing: nnU-Net's file for exactly these folds; None if there is none.
    """

    model: Model
    folds: tuple[int | str, ...]
    images: Path
    output: Path
    cases: tuple[str, ...]
    device: str
    processes: int
    postprocessing: Path | None

    @property
    def predicted(self) -> Path:
        """Where nnU-Net's predictor writes to."""
        return self.output / BEFORE_POSTPROCESSING if self.postprocessing else self.output

    @property
    def record(self) -> Path:
        """The file that says what made the predictions."""
        return self.output / f"{self.identifier}.json"

    @property
    def folder(self) -> Path:
        return self.output

    @property
    def notes(self) -> Path:
        return self.output

    @property
    def identifier(self) -> str:
        return "nnunet_sfma_prediction"

    @property
    def advice(self) -> str:
        """For those who find somebody else working on it."""
        return "or end it with kill or scancel"

    @cached_property
    def ending(self) -> str:
        """Of images and predictions."""
        return read_dataset_json(self.model.folder / "dataset.json")["file_ending"]

    def files(self, folder: Path, cases: Sequence[str] | None = None) -> list[Path]:
        """The files of cases, or of all, in a folder; they need not be there."""
        return [folder / f"{case}{self.ending}" for case in (self.cases if cases is None else cases)]

    def number_done(self) -> int:
        """How many cases have a prediction."""
        there = set(os.listdir(self.predicted)) if self.predicted.is_dir() else set()
        return sum(f"{case}{self.ending}" in there for case in self.cases)

    @cached_property
    def _known_as_whole(self) -> set[tuple]:
        """Files that this process has read to their end, with size and age: they are not read again."""
        return set()

    def remove_cut_off(self, paths: Sequence[Path]) -> None:
        """Remove those of the files that are there, but not whole, however the command that wrote them ended.

        ITK does not notice that a disk is full.
        """
        states = {path: _state(path) for path in paths if path.is_file()}
        unknown = {path: state for path, state in states.items() if state not in self._known_as_whole}
        reader = PlansManager(read_plans(self.model.folder / "plans.json")).image_reader_writer_class
        removed = remove_cut_off(list(unknown), reader, self.processes)
        self._known_as_whole.update(unknown[path] for path in unknown.keys() - set(removed))


class Files:
    """What both kinds of jobs have in common: they are done when their files are there and whole.

    Attributes:
        prediction: the whole.
        log: of the job.
        files: that it makes.
    """

    prediction: Prediction
    log: Path
    files: list[Path]

    @property
    def workplace(self) -> Prediction:
        return self.prediction

    def prepare(self) -> None:
        """Remove what the last command left cut off."""
        self.prediction.remove_cut_off(self.files)

    def next_command(self) -> list[str] | None:
        """The command, or None if there is nothing left to do: if all files are there and whole."""
        self.prepare()
        return None if self.is_finished() else self.command()

    def stamp(self) -> object:
        return [(path.name, path.stat().st_mtime_ns) for path in self.files if path.is_file()]


@dataclass(frozen=True)
class Part(Files):
    """A job: every ``number``-th case of a prediction, as nnU-Net's ``-num_parts`` divides it.

    Attributes:
        prediction: the whole.
        index: of the part, from 0.
        number: of parts.
    """

    prediction: Prediction
    index: int
    number: int

    @property
    def title(self) -> str:
        return f"part {self.index + 1} of {self.number}"

    @property
    def log(self) -> Path:
        return self.prediction.output / "logs" / f"part_{self.index + 1}_of_{self.number}.log"

    @property
    def files(self) -> list[Path]:
        """Its predictions; they need not be there."""
        return self.prediction.files(self.prediction.predicted, self.prediction.cases[self.index :: self.number])

    def is_finished(self) -> bool:
        return all(path.is_file() for path in self.files)

    def command(self) -> list[str]:
        """The ``nnUNetv2_predict`` in batches that makes what is not there."""
        whole = self.prediction
        which = ["-d", whole.model.dataset, *whole.model.options, "-c", whole.model.configuration]
        folds = ["-f", *(str(fold) for fold in whole.folds)]
        part = ["-num_parts", str(self.number), "-part_id", str(self.index), "--continue_prediction"]
        places = ["-i", str(whole.images), "-o", str(whole.predicted)]
        predict = ["python", "-m", "nnunet_sfma.prediction"]
        return [*predict, *places, *which, *folds, *part, "-device", whole.device, "--disable_progress_bar"]


@dataclass(frozen=True)
class Postprocessing(Files):
    """A job: apply the model's post-processing to all predictions.

    Attributes:
        prediction: whose parts are finished.
    """

    prediction: Prediction

    @property
    def title(self) -> str:
        return "post-processing"

    @property
    def log(self) -> Path:
        return self.prediction.output / "logs" / "postprocessing.log"

    @property
    def files(self) -> list[Path]:
        return self.prediction.files(self.prediction.output)

    def command(self) -> list[str]:
        """The ``nnUNetv2_apply_postprocessing`` that makes all of them."""
        whole = self.prediction
        places = ["-i", str(whole.predicted), "-o", str(whole.output), "-pp_pkl_file", str(whole.postprocessing)]
        plans, dataset = whole.model.folder / "plans.json", whole.model.folder / "dataset.json"
        described = ["-plans_json", str(plans), "-dataset_json", str(dataset)]
        return ["nnUNetv2_apply_postprocessing", *places, *described, "-np", str(whole.processes)]

    @property
    def inputs(self) -> Inputs:
        """What it is applied to, and what is applied."""
        whole = self.prediction
        return Inputs([*whole.files(whole.predicted), whole.postprocessing], self.log.with_suffix(".inputs.json"))

    def prepare(self) -> None:
        """Remove what was made of other predictions or was left cut off, and note what the rest is made of."""
        if not self._is_of_these():
            for path in self.files:
                path.unlink(missing_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.inputs.keep()
        super().prepare()

    def is_finished(self) -> bool:
        return self._is_of_these() and all(path.is_file() for path in self.files)

    def _is_of_these(self) -> bool:
        """Whether what is there was made of these predictions, by content; by age where an older release made it."""
        if self.inputs.are_noted:
            return not self.inputs.have_changed()
        return is_newer(self.files, self.prediction.files(self.prediction.predicted))


def find_prediction(
    model: Model, folds: Sequence[str] | None, images: Path, output: Path, device: str, processes: int
) -> Prediction:
    """Check the model and the images; nothing is written.

    Args:
        model: with the data set's id or name.
        folds: as nnU-Net's ``-f`` takes them; None for all of the split in nnUNet_preprocessed, or all that the model's
            folder has if there is no split.
        images, output: folders.
        device: what ``-device`` takes.
        processes: for what is done to cases before and after.

    Raises:
        UserError: if the model or a fold is not there, the images are not as it takes them, or the post-processing was
            chosen on cases that the folds were not meant to validate.
    """
    nnunet_folder("nnUNet_results")
    model = Model(dataset_name(model.dataset), model.trainer, model.plans, model.configuration)
    if not model.folder.is_dir():
        raise UserError(f"There is no model in {model.folder}: train it, or check -d, -tr, -p and -c.")
    plans = _plans(model)
    dataset_json = read_dataset_json(model.folder / "dataset.json")
    wanted = _folds(model, folds)
    images, output = images.absolute(), output.absolute()
    cases = find_cases(images, dataset_json["file_ending"], channel_names(dataset_json), plans)
    if images.resolve() in (output.resolve(), (output / BEFORE_POSTPROCESSING).resolve()):
        raise UserError(f"{output} holds the images: choose another folder for the predictions with -o.")
    accumulated = model.folder / f"crossval_results_folds_{folds_tuple_to_string(wanted)}"
    chosen = if_there(accumulated / "postprocessing.pkl")
    if chosen:
        refuse_postprocessing_of_another_split(model, wanted, dataset_json["file_ending"])
    return Prediction(model, wanted, images, output, tuple(cases), device, processes, chosen)


def in_parts(prediction: Prediction, number: int) -> list[Part]:
    """The prediction in parts, of which none is without a case.

    Raises:
        UserError: if the number is not positive.
    """
    if number < 1:
        raise UserError(f"--parts {number}: give the number of parts, 1 or more.")
    if number > 1 and os.environ.get("nnUNet_npp") == os.environ.get("nnUNet_nps") == "0":
        raise UserError("With nnUNet_npp=0 and nnUNet_nps=0 nnU-Net knows no parts: unset them, or give --parts 1.")
    number = min(number, len(prediction.cases))
    return [Part(prediction, index, number) for index in range(number)]


def _state(path: Path) -> tuple:
    state = path.stat()
    return path, state.st_size, state.st_mtime_ns


def _plans(model: Model) -> dict:
    path = model.folder / "plans.json"
    plans = read_plans(path)
    if model.configuration not in plans["configurations"]:
        raise UserError(
            f"{path} has no configuration '{model.configuration}' ({first_few(list(plans['configurations']))})."
        )
    if PlansManager(plans).get_configuration(model.configuration).previous_stage_name:
        raise UserError(f"{model.configuration} needs the predictions of the stage before it: use nnUNetv2_predict.")
    return plans


def _folds(model: Model, wanted: Sequence[str] | None) -> tuple[int | str, ...]:
    folds = _all_folds(model) if wanted is None else [fold if fold == "all" else _number(fold) for fold in wanted]
    folds = sorted(set(folds), key=lambda fold: (fold == "all", fold))
    missing = [str(fold) for fold in folds if not (model.folder / f"fold_{fold}" / FINAL).is_file()]
    if missing:
        there = sorted(name for name in model.fold_names if (model.folder / f"fold_{name}" / FINAL).is_file())
        others = f" (there is {', '.join(there)})" if there else ""
        raise UserError(
            f"{model.folder} has no {FINAL} of fold {first_few(missing)}: train it to its end, or name others with -f"
            f"{others}."
        )
    return tuple(folds)


def _all_folds(model: Model) -> list[int | str]:
    if os.environ.get("nnUNet_preprocessed") and (model.preprocessed / SPLITS_FILE).is_file():
        return list(range(len(split_of(model))))
    names = model.fold_names
    numbers = [int(name) for name in names if name.isdecimal()]
    if not numbers and "all" not in names:
        raise UserError(f"{model.folder} holds no fold: train one, or check -d, -tr, -p and -c.")
    return numbers or ["all"]


def _number(fold: str) -> int:
    if not fold.isdecimal():
        raise UserError(f"-f {fold} is no fold: give numbers, or all.")
    return int(fold)
