"""The table of folds that a driver keeps up to date and that ``nnunet-sfma status`` prints."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from nnunet_sfma.crossval.folds import Fold
from nnunet_sfma.crossval.progress import read_validated_dice
from nnunet_sfma.crossval.runner import Run
from nnunet_sfma.evaluation.fold_stage import Stage
from nnunet_sfma.trainers.checkpoints import FINAL

WIDTH_OF_A_FILE = 200
SECONDS_BETWEEN_LINES = 60
SECONDS_BETWEEN_TABLES = 1
LONGEST = timedelta(days=99_999)
COLUMNS = ("Fold", "State", "Epoch", "Loss", "Pseudo\nDice", "Validated\nDice", "Left", "Idle", "Where")
WORDS = ("State", "Where")


@dataclass(frozen=True)
class Row:
    """A fold as it stands.

    Attributes:
        trainer, plans, configuration, fold: which one; "all" is a fold of nnU-Net's as well.
        state: in a word or two.
        epoch: number of whole epochs; None if the log does not tell.
        num_epochs: length of the training, if the plans say it.
        loss: training loss of the last whole epoch.
        pseudo_dice: of the last whole epoch, of random patches.
        validated_dice: of the validation cases, mean over the classes; not of fold "all", which validates what it was
            trained on.
        seconds_left: until the last epoch is done.
        idle_seconds: since nnU-Net last wrote to its log.
        where: device, host or job.
    """

    trainer: str
    plans: str
    configuration: str
    fold: int | str
    state: str
    epoch: int | None = None
    num_epochs: int | None = None
    loss: float | None = None
    pseudo_dice: float | None = None
    validated_dice: float | None = None
    seconds_left: float | None = None
    idle_seconds: float | None = None
    where: str = ""


def row_of(fold: Fold, state: str, where: str = "", is_running: bool = False) -> Row:
    """The row of a fold that is in this state."""
    model = fold.model
    row = {"trainer": model.trainer, "plans": model.plans, "configuration": model.configuration, "fold": fold.number}
    progress, num_epochs = fold.progress(), model.num_epochs
    has_ended = not is_running and (fold.folder / FINAL).is_file()
    is_trained = progress.predicting or has_ended
    return Row(
        **row,
        state="validating" if is_running and progress.predicting else state,
        epoch=num_epochs if is_trained else progress.epoch,
        num_epochs=num_epochs,
        loss=progress.loss,
        pseudo_dice=progress.pseudo_dice,
        validated_dice=read_validated_dice(fold.folder) if has_ended and fold.number != "all" else None,
        seconds_left=progress.seconds_left(num_epochs) if is_running and not is_trained else None,
        idle_seconds=time.time() - progress.last_change if is_running and progress.last_change else None,
        where=where,
    )


def to_tables(rows: Sequence[Row]) -> Group:
    """A table for each model, narrow enough for a small terminal."""
    by_model: dict[str, Table] = {}
    for row in rows:
        model = f"{row.trainer} {row.plans} {row.configuration}"
        if model not in by_model:
            by_model[model] = Table(box=None, pad_edge=False, title=model, title_justify="left", title_style="bold")
            for name in COLUMNS:
                by_model[model].add_column(name, justify="left" if name in WORDS else "right", no_wrap=True)
        by_model[model].add_row(*cells(row))
    return Group(*by_model.values())


def print_rows(rows: Sequence[Row]) -> None:
    """The tables, as wide as they have to be where they do not go to a terminal."""
    console = Console(markup=False)
    if not console.is_terminal:
        console = Console(width=WIDTH_OF_A_FILE, markup=False)
    console.print(to_tables(rows))


def to_json(rows: Sequence[Row]) -> str:
    """The rows for scripts; a loss that is no number is null."""
    entries = [asdict(row) for row in rows]
    for entry in entries:
        for key, value in entry.items():
            if isinstance(value, float) and not math.isfinite(value):
                entry[key] = None
    return json.dumps(entries, indent=2)


def cells(row: Row) -> list[str]:
    """What the table shows of a row, apart from the model."""
    epoch = "" if row.epoch is None else f"{row.epoch}/{row.num_epochs}" if row.num_epochs else str(row.epoch)
    numbers = ["" if value is None else f"{value:.4f}" for value in (row.loss, row.pseudo_dice, row.validated_dice)]
    times = ["" if value is None else duration(value) for value in (row.seconds_left, row.idle_seconds)]
    return [str(row.fold), row.state, epoch, *numbers, *times, row.where]


def duration(seconds: float) -> str:
    """As h:mm:ss, and days before it."""
    return str(timedelta(seconds=round(min(max(seconds, 0), LONGEST.total_seconds()))))


class LiveTable:
    """Shows how folds get on: a table in a terminal, lines elsewhere."""

    def __init__(self, folds: Sequence[Fold]):
        self._folds = folds
        self._console = Console(markup=False)
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._states: dict[Fold, str] = {}
        self._shown = 0.0
        self._is_read = True

    def __enter__(self) -> "LiveTable":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception) -> None:
        if self._live:
            self._live.stop()

    def show(self, run: Run) -> None:
        """Show the state of a run; nobody who stops reading and no log that is moved away stops the trainings."""
        try:
            if self._is_read:
                self._show(run)
        except BrokenPipeError:
            self._is_read = False
        except OSError:
            pass

    def _show(self, run: Run) -> None:
        pause = SECONDS_BETWEEN_TABLES if self._live else SECONDS_BETWEEN_LINES
        states = {fold: _state(fold, run) for fold in self._folds}
        changed = [fold for fold in self._folds if states[fold] != self._states.get(fold)]
        if not changed and time.monotonic() - self._shown < pause:
            return
        running = {started.job: device.name for device, started in run.running.items()}
        shown = self._folds if self._live else [*changed, *(fold for fold in running if fold not in changed)]
        rows = [row_of(fold, states[fold], running.get(fold, ""), fold in running) for fold in shown]
        if self._live:
            self._live.update(to_tables(rows), refresh=True)
        else:
            print(*(_line(row) for row in rows), sep="\n", flush=True)
        self._states, self._shown = states, time.monotonic()


def _state(fold: Fold, run: Run) -> str:
    if fold in [started.job for started in run.running.values()]:
        return "training"
    if fold in run.waiting:
        return "waiting"
    return "failed" if fold in [failure.job for failure in run.failures] else Stage.FINISHED.value


def _line(row: Row) -> str:
    names = ("fold", "", "epoch", "loss", "pseudo Dice", "validated Dice", "left", "idle", "on")
    told = [f"{name} {value}".strip() for name, value in zip(names, cells(row), strict=True) if value]
    return f"{row.trainer} {row.plans}: {', '.join(told)}"
