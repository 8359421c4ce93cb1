"""``nnunet-sfma predict --executor slurm``: an array task per part, and the post-processing after all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_sfma.crossval.lock import locked, locked_by_task
from nnunet_sfma.crossval.predict import finish, prepare, without_postprocessing
from nnunet_sfma.crossval.predictions import Part, Postprocessing, Prediction
from nnunet_sfma.crossval.slurm import Request, Task, cancelled_on_failure, submit_after, submit_array
from nnunet_sfma.crossval.slurm_jobs import Submission, note, refuse_submitted
from nnunet_sfma.nnunet_folders import make_writable_folder


@dataclass
class FinishPrediction:
    """The job that applies the post-processing when all parts have ended."""

    prediction: Prediction

    def __call__(self) -> str:
        with locked_by_task(self.prediction, Postprocessing(self.prediction).log) as locks:
            return str(finish(self.prediction, locks=locks))

    def checkpoint(self):
        """It does again only what is not there."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


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
    folder, name = prediction.output / "slurm", f"nnunet-sfma-predict-{prediction.model.dataset_id}"
    with locked([prediction], typed):
        refuse_submitted([prediction])
        prepare(prediction, overwrite)
        unfinished = [part for part in parts if part.next_command()]
        tasks = submit_array(folder, name, [Task(part) for part in unfinished], request)
        with cancelled_on_failure(tasks):
            job = FinishPrediction(prediction)
            last = submit_after(folder, name, job, tasks, request) if prediction.postprocessing else ""
            ids = {str(part.index): id for part, id in zip(unfinished, tasks, strict=True)}
            note(prediction, Submission.of(name, typed, ids, last))
    lines = [f"{part.title}: job {id}" for part, id in zip(unfinished, tasks, strict=True)]
    after = f"post-processing: job {last}, after all of them" if last else without_postprocessing(prediction)
    return [*lines, after, f"Logs: {folder}"]
