"""The finished folds of a model brought together, by nnU-Net's commands and ours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nnunetv2.utilities.file_path_utilities import folds_tuple_to_string

from nnunet_sfma.crossval.models import Model, read_splits


@dataclass(frozen=True)
class Results:
    """A job: accumulate the folds of a model, choose the post-processing, evaluate.

    The first two do what ``nnUNetv2_find_best_configuration`` does for a single model, and leave the same files.

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
    def accumulated(self) -> Path:
        """nnU-Net's folder for all folds' predictions, metrics and post-processing."""
        return self.model.folder / f"crossval_results_folds_{folds_tuple_to_string(self.folds)}"

    @property
    def evaluation(self) -> Path:
        """Our folder for the evaluation."""
        return self.model.folder / "evaluation"

    def next_command(self) -> list[str] | None:
        """The first of the three commands whose result is not there, or is older than what it is made from."""
        return next((command for command, is_done in self._steps() if not is_done()), None)

    def commands(self) -> list[list[str]]:
        """The commands that are left to be run, in their order."""
        steps = self._steps()
        first = next((index for index, (_, is_done) in enumerate(steps) if not is_done()), len(steps))
        return [command for command, _ in steps[first:]]

    def stamp(self) -> object:
        return self.next_command()

    def _steps(self) -> list[tuple[list[str], Callable[[], bool]]]:
        model, numbers = self.model, [str(fold) for fold in self.folds]
        validated = [model.folder / f"fold_{fold}" / "validation" / "summary.json" for fold in self.folds]
        summary, chosen = self.accumulated / "summary.json", self.accumulated / "postprocessing.pkl"
        processes = ["-np", str(self.processes)]
        which = [model.dataset_id, "-c", model.configuration, *model.options]
        subset = ["-f", *numbers] if len(self.folds) < len(read_splits(model)) else []
        labels = str(model.preprocessed / "gt_segmentations")
        return [
            (
                ["nnUNetv2_accumulate_crossval_results", *which, "-f", *numbers],
                lambda: is_newer([summary], validated),
            ),
            (
                ["nnUNetv2_determine_postprocessing", "-i", str(self.accumulated), "-ref", labels, *processes],
                lambda: is_newer([chosen], [summary]),
            ),
            (
                ["nnunet-sfma", "evaluate", "-d", *which, *subset, *processes],
                lambda: is_newer([self.evaluation / "evaluation.json"], validated),
            ),
        ]


@dataclass(frozen=True)
class Report:
    """A job: one report on all models, made anew each time, because the last one may be on others.

    Attributes:
        results: of each model.
        before: when the report that was there was written, in nanoseconds; None if there was none.
    """

    results: tuple[Results, ...]
    before: int | None

    @classmethod
    def on(cls, results: Sequence[Results]) -> "Report":
        report = cls(tuple(results), None)
        return replace(report, before=report.stamp())

    @property
    def title(self) -> str:
        return "report"

    @property
    def folder(self) -> Path:
        return self.results[0].model.notes

    @property
    def log(self) -> Path:
        return self.folder / "report.log"

    @property
    def path(self) -> Path:
        return self.folder / "report.html"

    def command(self) -> list[str]:
        return ["nnunet-sfma", "report", *(str(one.evaluation) for one in self.results), "-o", str(self.path)]

    def next_command(self) -> list[str] | None:
        return self.command() if self.stamp() == self.before else None

    def stamp(self) -> object:
        return self.path.stat().st_mtime_ns if self.path.is_file() else None


def is_newer(made: Sequence[Path], sources: Sequence[Path]) -> bool:
    """Whether all of it is there, and none of it is older than a source."""
    if not all(path.is_file() for path in (*made, *sources)):
        return False
    return min(path.stat().st_mtime for path in made) >= max(path.stat().st_mtime for path in sources)
