"""A fold as a job: what lies on the disk decides which of nnU-Net's commands brings it on."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nnunet_sfma.crossval.models import Model, split_of
from nnunet_sfma.crossval.progress import Progress, read_progress
from nnunet_sfma.evaluation.fold_stage import CHECKPOINTS, Stage, fold_stage
from nnunet_sfma.nnunet_files import read_dataset_json
from nnunet_sfma.trainers.checkpoints import restore_replaced, set_aside_damaged
from nnunet_sfma.trainers.fold_lock import is_held


@dataclass(frozen=True)
class Fold:
    """One fold of a model, trained and validated by ``nnUNetv2_train``.

    Attributes:
        model: whose fold it is.
        number: of the fold; nnU-Net's fold "all" can be looked at, and is not run.
        device: what ``-device`` takes.
        npz: whether the validation's probabilities are wanted.
    """

    model: Model
    number: int | str
    device: str = "cuda"
    npz: bool = False

    @property
    def workplace(self) -> Model:
        return self.model

    @property
    def title(self) -> str:
        return f"{self.model.trainer} {self.model.plans} fold {self.number}"

    @property
    def folder(self) -> Path:
        """nnU-Net's folder of this fold; it need not be there."""
        return self.model.folder / f"fold_{self.number}"

    @property
    def log(self) -> Path:
        return self.model.notes / f"{self.model.identifier}_fold_{self.number}.log"

    @cached_property
    def cases(self) -> list[str]:
        """Identifiers of the validation cases."""
        return split_of(self.model)[self.number]["val"]

    @cached_property
    def ending(self) -> str:
        """Of predictions."""
        prepared = self.model.preprocessed if self.model.is_preprocessed else self.model.folder
        return read_dataset_json(prepared / "dataset.json")["file_ending"]

    @property
    def stage(self) -> Stage:
        """How far it is, with the probabilities if they are wanted."""
        stage = fold_stage(self.folder, self.cases, self.ending)
        if stage == Stage.FINISHED and self.npz:
            wanted = (self.folder / "validation" / f"{case}.npz" for case in self.cases)
            return stage if all(path.is_file() for path in wanted) else Stage.TRAINED
        return stage

    def next_command(self) -> list[str] | None:
        """The ``nnUNetv2_train`` that starts the fold, continues it or repeats its validation; None if finished."""
        how = {Stage.NOT_TRAINED: [], Stage.INTERRUPTED: ["--c"], Stage.TRAINED: ["--val"]}
        stage = self.stage
        if stage == Stage.FINISHED:
            return None
        command = ["nnUNetv2_train", self.model.dataset_id, self.model.configuration, str(self.number)]
        options = [*self.model.options, "-device", self.device, *(["--npz"] if self.npz else [])]
        return [*command, *options, *how[stage]]

    def prepare(self) -> None:
        """Set damaged checkpoints aside, and remove the summary of a validation that has to be repeated.

        A fold that somebody else trains at the moment is left alone; its command will refuse.
        """
        if self.stage == Stage.FINISHED or is_held(self.folder):
            return
        restore_replaced(self.folder)
        for sentence in set_aside_damaged(self.folder):
            print(sentence)
        if self.stage == Stage.TRAINED:
            (self.folder / "validation" / "summary.json").unlink(missing_ok=True)

    def stamp(self) -> object:
        """The checkpoints by their age and the validation's files by name: a repeated validation writes them again."""
        checkpoints = [path for path in (self.folder / name for name in CHECKPOINTS) if path.is_file()]
        validated = sorted(path.name for path in (self.folder / "validation").glob("*"))
        return [(path.name, path.stat().st_mtime_ns) for path in checkpoints], validated

    def progress(self) -> Progress:
        return read_progress(self.folder)
