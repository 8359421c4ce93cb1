"""The finished folds of a model brought together, by nnU-Net's commands and ours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nnunetv2.utilities.file_path_utilities import folds_tuple_to_string

from nnunet_sfma.crossval.inputs import Inputs, are_copied
from nnunet_sfma.crossval.models import Model, split_of
from nnunet_sfma.nnunet_files import read_dataset_json


class Step(NamedTuple):
    """A command, the file it makes, and whether that is done."""

    command: list[str]
    made: Path
    is_done: Callable[[], bool]


@dataclass(frozen=True)
class Accumulation:
    """A job: bring a model's folds together and choose the post-processing.

    It does what ``nnUNetv2_find_best_configuration`` does for a single model, and leaves the same files.

    Attributes:
        model: whose folds are finished.
        folds: of the model.
        processes: for what is done to cases.
    """

    model: Model
    folds: tuple[int, ...]
    processes: int

    @property
    def title(self) -> str:
        return f"{self.model.trainer} {self.model.plans} results"

    @property
    def log(self) -> Path:
        return self.model.notes / f"{self.model.identifier}_results.log"

    @property
    def folder(self) -> Path:
        """nnU-Net's folder for all folds' predictions, metrics and post-processing."""
        return self.model.folder / f"crossval_results_folds_{folds_tuple_to_string(self.folds)}"

    def prepare(self) -> None:
        """Remove what was made of other predictions or labels, and note what the rest is made of."""
        for step in self._unfinished():
            step.made.unlink(missing_ok=True)
        self.inputs.keep()

    def next_command(self) -> list[str] | None:
        """The first of the two commands whose result is not there, or was made of other files."""
        return next(iter(self.commands()), None)

    def commands(self) -> list[list[str]]:
        """The commands that are left to be run, in their order."""
        return [step.command for step in self._unfinished()]

    def stamp(self) -> object:
        return self.next_command()

    @property
    def inputs(self) -> Inputs:
        """Summaries and predictions of the folds, and the labels."""
        labels = [self._labels / path.name for path in self._predictions]
        note = self.model.notes / f"{self.model.identifier}_folds_{folds_tuple_to_string(self.folds)}.inputs.json"
        return Inputs([*self._summaries, *self._predictions, *labels], note)

    @property
    def _summaries(self) -> list[Path]:
        return [self.model.folder / f"fold_{fold}" / "validation" / "summary.json" for fold in self.folds]

    @property
    def _predictions(self) -> list[Path]:
        description = self.model.folder / "dataset.json"
        if not description.is_file():  # before the first training
            return []
        ending = read_dataset_json(description)["file_ending"]
        return [path for summary in self._summaries for path in sorted(summary.parent.glob(f"*{ending}"))]

    @property
    def _labels(self) -> Path:
        return self.model.preprocessed / "gt_segmentations"

    def _unfinished(self) -> list[Step]:
        """The first step that is not done, and those after it."""
        steps = self._steps()
        first = next((index for index, step in enumerate(steps) if not step.is_done()), len(steps))
        return steps[first:]

    def _steps(self) -> list[Step]:
        model, numbers = self.model, [str(fold) for fold in self.folds]
        summary, chosen = self.folder / "summary.json", self.folder / "postprocessing.pkl"
        which = [model.dataset_id, "-c", model.configuration, *model.options, "-f", *numbers]
        choose = ["-i", str(self.folder), "-ref", str(self._labels), "-np", str(self.processes)]
        return [
            Step(["nnUNetv2_accumulate_crossval_results", *which], summary, self._is_accumulated),
            Step(["nnUNetv2_determine_postprocessing", *choose], chosen, self._is_chosen),
        ]

    def _is_accumulated(self) -> bool:
        summary = self.folder / "summary.json"
        if self.inputs.are_noted:
            return not self.inputs.have_changed() and _is_written(summary)
        return is_newer([summary], self._summaries) and are_copied(self._predictions, self.folder)

    def _is_chosen(self) -> bool:
        chosen = self.folder / "postprocessing.pkl"
        return _is_written(chosen) if self.inputs.are_noted else is_newer([chosen], [self.folder / "summary.json"])


@dataclass(frozen=True)
class MadeAnew:
    """A job that is done each time, because what is there may have been made otherwise: of other folds, for instance.

    Attributes:
        title, log: see :class:`nnunet_sfma.crossval.runner.Job`.
        command: that makes it.
        path: of what is made.
        before: when what was there was written, in nanoseconds; None if nothing was.
    """

    title: str
    log: Path
    command: tuple[str, ...]
    path: Path
    before: int | None

    def prepare(self) -> None:
        """Nothing misleads it."""

    def next_command(self) -> list[str] | None:
        """The command, until it has made its file."""
        return list(self.command) if self.stamp() == self.before else None

    def stamp(self) -> int | None:
        return _written(self.path)


def evaluation_folder(model: Model) -> Path:
    """Where ``nnunet-sfma evaluate`` writes the evaluation of a model."""
    return model.folder / "evaluation"


def evaluation(model: Model, folds: Sequence[int], processes: int) -> MadeAnew:
    """The job that evaluates a model's folds; measurements of files that have not changed are not repeated."""
    subset = ["-f", *(str(fold) for fold in folds)] if len(folds) < len(split_of(model)) else []
    which = ["-d", model.dataset_id, "-c", model.configuration, *model.options, *subset]
    path = evaluation_folder(model) / "evaluation.json"
    return MadeAnew(
        f"{model.trainer} {model.plans} evaluation",
        model.notes / f"{model.identifier}_evaluation.log",
        ("nnunet-sfma", "evaluate", *which, "-np", str(processes)),
        path,
        _written(path),
    )


def report(models: Sequence[Model], folds: Sequence[int]) -> MadeAnew:
    """The job that reports on all models together; a look at some folds does not replace the page of all folds."""
    folder = models[0].notes
    is_whole = len(folds) == len(split_of(models[0]))
    path = folder / ("report.html" if is_whole else f"report_folds_{folds_tuple_to_string(folds)}.html")
    evaluations = [str(evaluation_folder(model)) for model in models]
    command = ("nnunet-sfma", "report", *evaluations, "-o", str(path))
    return MadeAnew("report", path.with_suffix(".log"), command, path, _written(path))


def is_newer(made: Sequence[Path], sources: Sequence[Path]) -> bool:
    """Whether all of it is there and not empty, and none of it is older than a source."""
    if not all(map(_is_written, (*made, *sources))):
        return False
    return min(path.stat().st_mtime for path in made) >= max(path.stat().st_mtime for path in sources)


def _is_written(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _written(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.is_file() else None
