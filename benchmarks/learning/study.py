"""What a study is made of: models, and the public commands that plan, train, predict and evaluate them."""

import json
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from nnunet_sfma.crossval.runner import program
from nnunet_sfma.errors import UserError
from nnunet_sfma.nnunet_folders import dataset_name, nnunet_folder
from nnunet_sfma.presets import load_preset

# Small patches train fastest with one thread each and as many trainings as there are cores. Without augmentation
# processes two trainings with one seed are equal. Memory that is handed back has to be asked for again.
TRAINING_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "nnUNet_n_proc_DA": "0",
    "nnUNet_def_n_proc": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "1000000000000",
}
FROM_SCRATCH = ("training.pretrained=none", "training.seed=1")


@dataclass(frozen=True)
class Model:
    """A network of a study.

    Attributes:
        name: in the study; its plans are called ``study-<name>``.
        title: in tables.
        preset: where its plans come from.
        settings: what is changed in the preset besides the study's recipe, as ``nnunet-sfma plan --set`` takes it.
    """

    name: str
    title: str
    preset: str
    settings: tuple[str, ...] = ()

    @property
    def plans(self) -> str:
        return f"study-{self.name}"

    @property
    def trainer(self) -> str:
        return load_preset(self.preset).trainer

    def folder(self, dataset: int) -> Path:
        """Where nnU-Net keeps its results."""
        return results(dataset) / f"{self.trainer}__{self.plans}__2d"


def preprocess(dataset: int) -> list[str]:
    processes = str(os.cpu_count())
    return ["nnUNetv2_plan_and_preprocess", "-d", str(dataset), "-c", "2d", "-np", processes, "-npfp", processes]


def split(dataset: int, scheme: str = "five-fold") -> list[str]:
    return ["nnunet-sfma", "splits", "-d", str(dataset), "--scheme", scheme]


def plan(dataset: int, model: Model, recipe: Sequence[str]) -> list[str]:
    """Plans of an earlier call are left if they are the same, and refused if not."""
    which = ["-d", str(dataset), "--preset", model.preset, "--name", model.plans]
    return ["nnunet-sfma", "plan", *which, "--set", *recipe, *model.settings]


def train(dataset: int, model: Model, fold: int | str) -> list[str]:
    return ["nnUNetv2_train", str(dataset), "2d", str(fold), "-tr", model.trainer, "-p", model.plans, "-device", "cpu"]


def crossval(dataset: int, model: Model, device: str = "cpu", processes: int = 1) -> list[str]:
    """Trains what is not finished of a model's folds, and evaluates them; ended, it leaves no process behind."""
    which = ["-d", str(dataset), "-tr", model.trainer, "-p", model.plans]
    return ["nnunet-sfma", "crossval", *which, "-device", device, "-np", str(processes)]


def evaluate(predictions: Path, labels: Path) -> list[str]:
    return ["nnunet-sfma", "evaluate", "-i", str(predictions), "-l", str(labels), "-np", str(os.cpu_count())]


def raw_folder(dataset: int) -> Path:
    """nnU-Net's folder of the data set as it was converted."""
    return nnunet_folder("nnUNet_raw") / dataset_name(dataset)


def results(dataset: int) -> Path:
    """nnU-Net's folder of the data set's results."""
    return nnunet_folder("nnUNet_results") / dataset_name(dataset)


def preprocessed(dataset: int) -> Path:
    """nnU-Net's folder of the data set's preprocessed cases and plans."""
    return nnunet_folder("nnUNet_preprocessed") / dataset_name(dataset)


def is_preprocessed(dataset: int) -> bool:
    """Whether nnU-Net has preprocessed the data set to the end: the labels are what it copies last."""
    return (preprocessed(dataset) / "gt_segmentations").is_dir()


def held_out(dataset: int) -> list[str]:
    """Cases that fold 0 of the data set validates on."""
    return _fold_0(dataset)["val"]


def trained_on(dataset: int) -> list[str]:
    """Cases that fold 0 of the data set trains on."""
    return _fold_0(dataset)["train"]


def _fold_0(dataset: int) -> dict[str, list[str]]:
    return json.loads((preprocessed(dataset) / "splits_final.json").read_text())[0]


def run(
    command: Sequence[str], log: str, environment: Mapping[str, str] | None = None, minutes: float | None = None
) -> float:
    """Print a command, run it with its output going to a file, and return how many seconds it took.

    Args:
        command: as a user would type it.
        log: name of the file in ``nnUNet_results/study_logs``.
        environment: variables to set besides the present ones.
        minutes: after which it is told to end (SIGTERM), which is no failure.

    Raises:
        UserError: if it fails.
    """
    print(f"$ {shlex.join(command)}", flush=True)
    path = nnunet_folder("nnUNet_results") / "study_logs" / f"{log}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    start = monotonic()
    whole = {**os.environ, **(environment or {})}
    interrupted = False
    with (
        path.open("w") as file,
        subprocess.Popen(program(command), env=whole, stdout=file, stderr=subprocess.STDOUT) as process,
    ):
        try:
            process.wait(minutes and 60 * minutes)
        except subprocess.TimeoutExpired:
            interrupted = True
            process.terminate()
    if process.returncode and not interrupted:
        raise UserError(f"{shlex.join(command)} failed with exit code {process.returncode}; its output is in {path}.")
    return monotonic() - start


def run_all(commands: Mapping[str, Sequence[str]], jobs: int) -> None:
    """Run trainings, ``jobs`` at a time; the first that fails ends the study when those that run have ended.

    Args:
        commands: by the names of their logs.
        jobs: at most.
    """
    with ThreadPoolExecutor(jobs) as pool:
        runs = [pool.submit(run, command, name, TRAINING_ENVIRONMENT) for name, command in commands.items()]
        try:
            for future in runs:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def plan_and_train(dataset: int, models: Sequence[Model], recipe: Sequence[str], fold: int | str, jobs: int) -> None:
    """One fold of each model, on the CPU; what is finished is left."""
    for model in models:
        run(plan(dataset, model, recipe), f"{dataset}-plan-{model.name}")
    unfinished = [model for model in models if not summary_file(dataset, model, fold).is_file()]
    run_all({f"{dataset}-train-{model.name}": train(dataset, model, fold) for model in unfinished}, jobs)


def summary_file(dataset: int, model: Model, fold: int | str) -> Path:
    """nnU-Net's scores of a fold's validation, the last that a training writes."""
    return model.folder(dataset) / f"fold_{fold}" / "validation" / "summary.json"
