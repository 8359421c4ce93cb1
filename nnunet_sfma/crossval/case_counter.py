"""Shows how a prediction gets on: a bar in a terminal, a line a minute elsewhere."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from nnunet_sfma.crossval.predictions import Prediction
from nnunet_sfma.crossval.runner import Run
from nnunet_sfma.crossval.table import SECONDS_BETWEEN_LINES, SECONDS_BETWEEN_TABLES, duration


class CaseCounter:
    """Counts the cases that have a prediction; the time left is at the pace since it was made."""

    def __init__(self, prediction: Prediction):
        self._prediction = prediction
        self._start, self._done_before = time.monotonic(), prediction.number_done()
        self._shown, self._last = float("-inf"), None
        console = Console()
        columns = [
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
        ]
        self._bar = Progress(*columns, console=console, auto_refresh=False) if console.is_terminal else None
        if self._bar:
            total = len(prediction.cases)
            self._task = self._bar.add_task("Predicting", total=total, completed=self._done_before, told="")

    def __enter__(self) -> "CaseCounter":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *exception) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, run: Run) -> None:
        """Show the state of a run of parts."""
        news = (len(run.running) > 0, len(run.failures))
        pause = SECONDS_BETWEEN_TABLES if self._bar else SECONDS_BETWEEN_LINES
        if news == self._last and time.monotonic() - self._shown < pause:
            return
        done, total = self._prediction.number_done(), len(self._prediction.cases)
        told = ", ".join([*self._left(done), *(f"{failure.job.title} failed" for failure in run.failures)])
        if self._bar:
            self._bar.update(self._task, completed=done, told=told, refresh=True)
        else:
            print(f"{done} of {total} cases{', ' if told else ''}{told}", flush=True)
        self._shown, self._last = time.monotonic(), news

    def _left(self, done: int) -> list[str]:
        made, left = done - self._done_before, len(self._prediction.cases) - done
        if made < 1 or not left:
            return []
        return [f"{duration((time.monotonic() - self._start) / made * left)} left"]
