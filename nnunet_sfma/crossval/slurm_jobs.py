"""The jobs that were submitted to SLURM: what was noted down, what SLURM says of them, and their end."""

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from nnunet_sfma.crossval.lock import Workplace
from nnunet_sfma.errors import UserError
from nnunet_sfma.files import replace_text
from nnunet_sfma.json_files import read_json
from nnunet_sfma.sentences import first_few, last_line

STRING = {"type": "string"}
SCHEMA = {
    "type": "object",
    "required": ["name", "command", "submitted", "folds", "finish"],
    "properties": {
        **dict.fromkeys(("name", "command", "submitted", "finish"), STRING),
        "folds": {"type": "object", "additionalProperties": STRING},
    },
}
FIELDS = "%i|%j|%T|%r|%N"


@dataclass(frozen=True)
class Submission:
    """What is noted down of a submission.

    Attributes:
        name: of all its jobs.
        command: what the user typed.
        submitted: when.
        folds: job id of each fold, or part of a prediction, as ``squeue -r`` prints it.
        finish: id of the job that waits for all of them; empty if there is none.
    """

    name: str
    command: str
    submitted: str
    folds: Mapping[str, str]
    finish: str

    @classmethod
    def of(cls, name: str, command: str, folds: Mapping[str, str], finish: str) -> "Submission":
        """A submission of this moment."""
        return cls(name, command, f"{datetime.now():%Y-%m-%d %H:%M:%S}", folds, finish)

    @property
    def ids(self) -> list[str]:
        return [*self.folds.values(), self.finish]


@dataclass(frozen=True)
class SlurmJob:
    """A job that SLURM knows and that has not ended."""

    id: str
    name: str
    state: str
    reason: str
    nodes: str

    def describe(self) -> str:
        """Where it runs, or why it waits."""
        return f"job {self.id} on {self.nodes}" if self.nodes else f"job {self.id} ({self.reason})"


def record_file(workplace: Workplace) -> Path:
    """The file in which a submission is noted down."""
    return workplace.notes / f"{workplace.identifier}.slurm.json"


def note(workplace: Workplace, submission: Submission) -> None:
    """Keep a submission, so that any machine that sees the results can find its jobs."""
    replace_text(record_file(workplace), json.dumps(asdict(submission), indent=2) + "\n")


def read_submission(workplace: Workplace) -> Submission | None:
    """The last submission; None if there is none.

    Raises:
        UserError: if the file is damaged or cannot be read.
    """
    path = record_file(workplace)
    if not path.is_file():
        return None
    entries = read_json(path, SCHEMA, advice="look for the jobs with squeue, then remove it")
    return Submission(**{key: entries[key] for key in SCHEMA["required"]})


def live_jobs(submission: Submission | None) -> dict[str, SlurmJob]:
    """The jobs of a submission that have not ended, by id; none where there is no SLURM.

    SLURM numbers its jobs anew one day, so a job counts only if it carries the submission's name as well.
    """
    if submission is None or not shutil.which("squeue"):
        return {}
    listed = _call(["squeue", "--noheader", "--array", f"--name={submission.name}", f"--format={FIELDS}"])
    jobs = [SlurmJob(*line.split("|")) for line in listed.splitlines() if line.count("|") == FIELDS.count("|")]
    return {job.id: job for job in jobs if job.id in submission.ids and job.name == submission.name}


def refuse_submitted(workplaces: Sequence[Workplace]) -> None:
    """Refuse work on results for which jobs are queued or running on a cluster.

    Raises:
        UserError: if a job of theirs has not ended.
    """
    for workplace in workplaces:
        submission = read_submission(workplace)
        live = live_jobs(submission)
        if live:
            raise UserError(
                f"Jobs of {submission.submitted} work on {workplace.folder} ({first_few(list(live))}): wait for them, "
                f"{workplace.advice}."
            )


def cancel(jobs: Iterable[str]) -> None:
    """End the jobs with these ids and no others.

    Raises:
        UserError: if SLURM refuses, for instance because they are somebody else's.
    """
    jobs = list(jobs)
    if jobs:
        _call(["scancel", *jobs])


def _call(command: list[str]) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        reason = last_line(getattr(error, "stderr", "") or error)
        raise UserError(f"{command[0]} failed ({reason}): try again when SLURM answers.") from None
