"""``nnunet-sfma crossval`` on this machine: train what is not finished, bring it together, compare, report."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_sfma.crossval import ensembles, job_log
from nnunet_sfma.crossval.comparison import on_one_page
from nnunet_sfma.crossval.devices import Device, kind_of
from nnunet_sfma.crossval.folds import Fold
from nnunet_sfma.crossval.lock import locked
from nnunet_sfma.crossval.models import Model, folds_of, keep_split_and_plans
from nnunet_sfma.crossval.raw_check import check_against_raw
from nnunet_sfma.crossval.results import Accumulation, evaluation, evaluation_folder, report
from nnunet_sfma.crossval.runner import Failure, Job, run_jobs
from nnunet_sfma.crossval.slurm_jobs import refuse_submitted
from nnunet_sfma.crossval.stale import refuse_stale
from nnunet_sfma.crossval.table import LiveTable
from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.compare import compare
from nnunet_sfma.evaluation.comparison_text import format_comparison
from nnunet_sfma.evaluation.evaluation_file import read_evaluation
from nnunet_sfma.interruptions import termination_as_exit
from nnunet_sfma.sentences import first_few


@dataclass(frozen=True)
class CrossValidation:
    """What is to be trained and brought together.

    Attributes:
        models: all on the same data set, and so on the same split.
        folds: of each model.
        device: what nnU-Net's ``-device`` takes.
        npz: whether the validation's probabilities are wanted, as for ensembles of models.
        processes: for what is done to cases after the training.
    """

    models: tuple[Model, ...]
    folds: tuple[int, ...]
    device: str
    npz: bool
    processes: int

    @classmethod
    def of(
        cls,
        models: Sequence[Model],
        folds: Sequence[int] | None,
        devices: Sequence[Device],
        npz: bool,
        processes: int,
    ) -> "CrossValidation":
        """All folds of the split if ``folds`` is None.

        Raises:
            UserError: if the split is damaged, has no such fold, or validates a case twice, or a model's folds were
                trained with another split or other plans than those that are there, or a label lies on another grid
                than its image.
        """
        numbers = folds_of(models[0], folds)
        refuse_stale(models, numbers)
        for sentence in check_against_raw(models, numbers):
            print(f"Warning: {sentence}", file=sys.stderr)
        return cls(tuple(models), tuple(numbers), kind_of(devices), npz, processes)

    @property
    def jobs(self) -> list[Fold]:
        """All folds of all models; first the same fold of each, so that an early look can compare."""
        return [Fold(model, fold, self.device, self.npz) for fold in self.folds for model in self.models]

    def accumulation(self, model: Model) -> Accumulation:
        return Accumulation(model, self.folds, self.processes)

    def evaluation(self, model: Model) -> Job:
        return evaluation(model, self.folds, self.processes)

    def unfinished(self) -> list[Fold]:
        return [job for job in self.jobs if job.next_command()]


def cross_validate(validation: CrossValidation, devices: Sequence[Device], typed: str) -> Path:
    """Train and validate the folds that are not finished, one per device at a time, then bring all of them together.

    Args:
        validation: what to do.
        devices: to do it on.
        typed: the command, for who finds the results locked.

    Returns:
        The report.

    Raises:
        UserError: if somebody else works on these results, or a job failed; the others are finished by then.
    """
    with locked(validation.models, typed) as locks, termination_as_exit():
        refuse_submitted(validation.models)
        keep_notes(validation)
        try:
            with LiveTable(validation.jobs) as table:
                failures = run_jobs(validation.jobs, devices, table.show, locks)
            return finish(validation, failures, locks)
        except KeyboardInterrupt:
            print("Stopped. The same command continues.")
            raise


def keep_notes(validation: CrossValidation) -> None:
    """Note down what the models' folds are trained on."""
    for model in validation.models:
        keep_split_and_plans(model, validation.folds)


def finish(validation: CrossValidation, failures: Sequence[Failure] = (), locks: Sequence[int] = ()) -> Path:
    """Bring the models together whose folds are all finished, and report on them and those they compare with.

    Raises:
        UserError: if a fold is not finished, or a step failed; the last lines of the logs are printed before.
    """
    failures, unfinished = list(failures), validation.unfinished()
    models = [model for model in validation.models if model not in {fold.model for fold in unfinished}]
    evaluated = []
    for model in models:
        failed = _run_steps([validation.accumulation(model), validation.evaluation(model)], locks)
        failures += failed
        evaluated += [] if failed else [model]
    shown = on_one_page(evaluated) if evaluated else []
    if shown:
        failures += _run_steps([report(shown, validation.folds)], locks)
    for failure in failures:
        print(f"\n{failure.describe()}")
    if failures or unfinished:
        names = dict.fromkeys([*(failure.job.title for failure in failures), *(fold.title for fold in unfinished)])
        raise UserError(f"Not finished: {first_few(list(names), 10)}. Mend it, then give the same command again.")
    print(format_comparison(compare([read_evaluation(evaluation_folder(model)) for model in shown])))
    path = report(shown, validation.folds).path
    print(f"\nReport: {path}")
    if validation.npz and len(evaluated) > 1:
        pairing = ensembles.command(evaluated, validation.folds)
        print(f"The best of these {len(evaluated)} and of their ensembles in pairs: {pairing}")
    return path


def dry_run(validation: CrossValidation, devices: Sequence[Device]) -> list[str]:
    """The commands that :func:`cross_validate` would run now, as one would type them, with remarks behind a "#"."""
    commands = [(job, job.next_command()) for job in validation.jobs]
    lines = [f"# {job.title} is finished" for job, command in commands if not command]
    for index, command in enumerate(command for _, command in commands if command):
        lines.append(job_log.as_typed(command, devices[index % len(devices)].environment))
    steps = []
    for model in validation.models:
        steps += [*validation.accumulation(model).commands(), validation.evaluation(model).next_command()]
    steps.append(report(on_one_page(validation.models), validation.folds).next_command())
    return lines + [job_log.as_typed(command, {}) for command in steps]


def _run_steps(steps: Sequence[Job], locks: Sequence[int]) -> list[Failure]:
    """One after another, up to the first that fails: each uses several processes itself, and the result before it."""
    for step in steps:
        if step.next_command():
            print(f"Making the {step.title} ...", flush=True)
        failures = run_jobs([step], [Device("cpu")], lambda run: None, locks)
        if failures:
            return failures
    return []
