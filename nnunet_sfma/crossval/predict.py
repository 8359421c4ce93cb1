"""``nnunet-sfma predict`` on this machine: predict what is not there, in parts, then apply the post-processing."""

from collections.abc import Sequence
from pathlib import Path

from nnunet_sfma.crossval import job_log
from nnunet_sfma.crossval.case_counter import CaseCounter
from nnunet_sfma.crossval.devices import Device
from nnunet_sfma.crossval.lock import locked
from nnunet_sfma.crossval.prediction_record import adopt, is_unfinished, refuse_others, remember, remove_all
from nnunet_sfma.crossval.predictions import DESCRIPTIONS, Part, Postprocessing, Prediction
from nnunet_sfma.crossval.runner import Failure, run_jobs
from nnunet_sfma.crossval.slurm_jobs import refuse_submitted
from nnunet_sfma.errors import UserError
from nnunet_sfma.files import replace_text
from nnunet_sfma.interruptions import termination_as_exit
from nnunet_sfma.nnunet_folders import make_writable_folder
from nnunet_sfma.sentences import first_few


def predict(parts: Sequence[Part], devices: Sequence[Device], overwrite: bool, typed: str) -> Path:
    """Predict the cases that have no prediction, one part per device at a time, then apply the post-processing.

    Args:
        parts: all of one prediction.
        devices: to do it on.
        overwrite: whether to remove the predictions that are there first.
        typed: the command, for who finds the folder locked.

    Returns:
        The folder of the final predictions.

    Raises:
        UserError: if another driver works on this folder, it holds other predictions, or a part failed; the others are
            finished by then.
    """
    prediction = parts[0].prediction
    make_writable_folder(prediction.output)
    with locked([prediction], typed) as locks, termination_as_exit():
        refuse_submitted([prediction])
        prepare(prediction, overwrite)
        print(_plan(parts), flush=True)
        try:
            with CaseCounter(prediction) as counter:
                failures = run_jobs(parts, devices, counter.show, locks)
            return finish(parts, failures, locks)
        except KeyboardInterrupt:
            print("Stopped. The same command continues.")
            raise


def prepare(prediction: Prediction, overwrite: bool) -> None:
    """Leave in the folder only what was made by the same model and is whole, and write down which model that is.

    Raises:
        UserError: if the folder holds other predictions, and they are not to be replaced.
    """
    refuse_others(prediction, overwrite)
    if overwrite and not is_unfinished(prediction):
        remove_all(prediction)
    adopt(prediction)
    prediction.remove_cut_off(prediction.files(prediction.predicted))
    if prediction.postprocessing:
        prediction.remove_cut_off(prediction.files(prediction.output))
    remember(prediction)


def finish(parts: Sequence[Part], failures: Sequence[Failure] = (), locks: Sequence[int] = ()) -> Path:
    """Apply the post-processing when all cases are predicted.

    Args:
        parts: all of one prediction; a killed one may have left a case cut off.

    Raises:
        UserError: if a case is not predicted, or the post-processing failed; the last lines of the logs are printed
            before.
    """
    prediction = parts[0].prediction
    for part in parts:
        part.prepare()
    left = len(prediction.cases) - prediction.number_done()
    if prediction.postprocessing and not left:
        print(f"Applying {prediction.postprocessing} ...", flush=True)
        failures = [*failures, *run_jobs([Postprocessing(prediction)], [Device("cpu")], lambda run: None, locks)]
    for failure in failures:
        print(f"\n{failure.describe()}")
    if failures or left:
        names = [failure.job.title for failure in failures] or [f"{left} of {len(prediction.cases)} cases"]
        raise UserError(f"Not finished: {first_few(names, 10)}. Mend it, then give the same command again.")
    if prediction.postprocessing:
        for name in DESCRIPTIONS:
            replace_text(prediction.output / name, (prediction.model.folder / name).read_text(encoding="utf-8"))
    remember(prediction, is_finished=True)
    print(f"Predictions: {prediction.output}")
    return prediction.output


def dry_run(parts: Sequence[Part], devices: Sequence[Device], overwrite: bool) -> list[str]:
    """The commands that :func:`predict` would run now, as one would type them, with remarks behind a "#".

    Raises:
        UserError: if the folder holds other predictions, and they are not to be replaced.
    """
    prediction = parts[0].prediction
    refuse_others(prediction, overwrite)
    unfinished = [part for part in parts if overwrite or not part.is_finished()]
    lines = [f"# {part.title} is finished" for part in parts if part not in unfinished]
    for index, part in enumerate(unfinished):
        lines.append(job_log.as_typed(part.command(), devices[index % len(devices)].environment))
    if not prediction.postprocessing:
        return [*lines, f"# {without_postprocessing(prediction)}"]
    job = Postprocessing(prediction)
    is_finished = not unfinished and job.is_finished()
    return [*lines, "# the post-processing is finished" if is_finished else job_log.as_typed(job.command(), {})]


def without_postprocessing(prediction: Prediction) -> str:
    """That there is no post-processing, and what makes one."""
    model, folds = prediction.model, [str(fold) for fold in prediction.folds]
    sentence = f"These folds ({', '.join(folds)}) have no post-processing"
    if "all" in folds:
        return f"{sentence}: it is chosen by a cross-validation."
    which = [model.dataset_id, *model.options, "-c", model.configuration, "-f", *folds, "--disable_ensembling"]
    return f"{sentence}; this makes it: {job_log.as_typed(['nnUNetv2_find_best_configuration', *which], {})}"


def _plan(parts: Sequence[Part]) -> str:
    prediction = parts[0].prediction
    done, number = prediction.number_done(), len(prediction.cases)
    there = f", {done} are there" if done else ""
    lines = [f"{number} cases in {len(parts)} part{'s' if len(parts) > 1 else ''}{there}; logs: {parts[0].log.parent}"]
    return "\n".join(lines if prediction.postprocessing else [*lines, without_postprocessing(prediction)])
