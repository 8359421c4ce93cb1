"""``nnunet-sfma predict --executor slurm``: an array task per part, and the post-processing after all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_sfma.crossval.lock import locked, locked_by_task
from nnunet_sfma.crossval.predict import finish, prepare, without_postprocessing
from nnunet_sfma.crossval.predictions import Part, Postprocessing
from nnunet_sfma.crossval.slurm import (
    RUNS_IN_VAIN,
    Request,
    Task,
    cancelled_on_failure,
    check_slurm,
    submit_after,
    submit_array,
)
from nnunet_sfma.crossval.slurm_jobs import Submission, note, refuse_submitted
from nnunet_sfma.nnunet_folders import make_writable_folder


@dataclass
class FinishPrediction:
    """The job that looks for cut-off predictions and applies the post-processing when all parts have ended."""

    parts: Sequence[Part]
    runs: int = 1

    def __call__(self) -> str:
        prediction = self.parts[0].prediction
        with locked_by_task(prediction, Postprocessing(prediction).log) as locks:
            return str(finish(self.parts, locks=locks))

    def checkpoint(self):
        """Queue it again, a few times."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(FinishPrediction(self.parts, self.runs + 1)) if self.runs <= RUNS_IN_VAIN else None


def submit_prediction(parts: Sequence[Part], request: Request, overwrite: bool, typed: str) -> list[str]:
    """Submit the parts that are not finished as one array, and the post-processing that waits for them.

    Returns:
        What was submitted, a line each.

    Raises:
        UserError: if submitit or SLURM is not there, SLURM refuses, the folder holds other predictions, or work on it
            is under way.
    """
    prediction = parts[0].prediction
    make_writable_folder(prediction.output)
    check_slurm()
    folder, name = prediction.output / "slurm", f"nnunet-sfma-predict-{prediction.model.dataset_id}"
    with locked([prediction], typed):
        refuse_submitted([prediction])
        prepare(prediction, overwrite)
        unfinished = [part for part in parts if part.next_command()]
        with cancelled_on_failure() as submitted:
            tasks = submit_array(folder, name, [Task(part) for part in unfinished], request)
            submitted += tasks
            last = submit_after(folder, name, FinishPrediction(parts), tasks, request)
            submitted.append(last)
            ids = {str(part.index): id for part, id in zip(unfinished, tasks, strict=True)}
            note(prediction, Submission.of(name, typed, ids, last))
    lines = [f"{part.title}: job {id}" for part, id in zip(unfinished, tasks, strict=True)]
    what = "post-processing" if prediction.postprocessing else "a last look at all predictions"
    lines.append(f"{what}: job {last}, after all of them")
    if not prediction.postprocessing:
        lines.append(without_postprocessing(prediction))
    return [*lines, f"Logs: {folder}"]
