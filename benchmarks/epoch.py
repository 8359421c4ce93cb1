"""Where the time of an epoch goes, with SFMANet and with nnU-Net's own network, in their real trainers.

Both train with nnU-Net's own plans, so with the same patches and batches, on the demo's phantom or on a data set that
nnU-Net has preprocessed. The epoch is split as nnU-Net's loop is: waiting for samples, steps, and bookkeeping (logs,
plots, checkpoints). What a training sample costs in the process that makes it, loading and augmentation, is measured
beside it; ``nnUNet_n_proc_DA`` processes share that work while the network computes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from time import perf_counter

import torch
from machine import synchronizer
from tqdm import tqdm

TRAINERS = {"sfmanet": "nnUNetTrainerSFMANet", "nnunet": "nnUNetTrainer"}
PHANTOM = 1
EPOCHS = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--iterations", type=int, default=20, help="training steps of the epoch; half as many validate")
    parser.add_argument(
        "--dataset", type=int, help="a preprocessed data set of nnU-Net's folders; default: the phantom"
    )
    parser.add_argument("--cases", type=int, default=20, help="of the phantom")
    parser.add_argument("--trainers", nargs="+", choices=list(TRAINERS), default=list(TRAINERS))


def measure(args: argparse.Namespace, device: torch.device) -> dict:
    """The second epoch of each trainer."""
    with redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:  # nnU-Net prints progress, no result
        _redirect("nnUNet_results", Path(folder))  # the models there stay as they are
        if args.dataset is None:
            _preprocess_phantom(Path(folder), args.cases)
        dataset = args.dataset or PHANTOM
        plans = _narrow_plans(dataset) if args.narrow else "nnUNetPlans"
        epochs = {
            name: _measure(
                dataset, TRAINERS[name], plans if name == "sfmanet" else "nnUNetPlans", args.iterations, device
            )
            for name in tqdm(args.trainers, desc="Trainers")
        }
    return {"iterations": args.iterations, "epochs": epochs}


def _redirect(name: str, folder: Path) -> None:
    """Give one of nnU-Net's folders another place; before nnU-Net is imported, which reads them."""
    if "nnunetv2.paths" in sys.modules:
        raise SystemExit(
            "nnU-Net was imported before its folders were set: run this benchmark in a process of its own."
        )
    os.environ[name] = str(folder / name)
    (folder / name).mkdir()


def _preprocess_phantom(folder: Path, cases: int) -> None:
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        _redirect(name, folder)
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess

    convert = ["convert", "phantom", "--cases", str(cases), "-d", str(PHANTOM)]
    subprocess.run([sys.executable, "-m", "nnunet_sfma.cli", *convert], check=True, stdout=sys.stderr)
    extract_fingerprints([PHANTOM], num_processes=1)
    plan_experiments([PHANTOM])
    preprocess([PHANTOM], configurations=("2d",), num_processes=(1,))


def _narrow_plans(dataset: int) -> str:
    from nnunet_sfma.planning.make_plans import make_plans

    return make_plans(dataset, "sfmanet-narrow", ["batch_size=2"], name="benchmark-narrow", overwrite=True).name


def _measure(dataset: int, trainer_name: str, plans: str, iterations: int, device: torch.device) -> dict:
    from nnunetv2.run.run_training import get_trainer_from_args

    trainer = get_trainer_from_args(str(dataset), "2d", 0, trainer_name, plans, device=device)
    trainer.on_train_start()
    trainer.num_epochs = EPOCHS
    for _ in range(EPOCHS):
        # the first one warms up; a trainer that continues in the middle of an epoch may change the numbers
        trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = iterations, max(1, iterations // 2)
        seconds = _run_epoch(trainer, synchronizer(device))
    trainer.on_train_end()
    return {
        "batch_size": trainer.configuration_manager.batch_size,
        "patch_size": list(trainer.configuration_manager.patch_size),
        "seconds": seconds,
        "seconds_per_sample": _time_samples(trainer, iterations),
    }


def _run_epoch(trainer, synchronize: Callable[[], object]) -> dict[str, float]:
    """nnU-Net's ``run_training`` for one epoch, with a clock."""
    clock = _Clock(synchronize)

    def outputs(part: str, iterations: int, step: Callable[[dict], dict], loader) -> list[dict]:
        return [clock.time(f"{part}_step", step, clock.time(f"{part}_wait", next, loader)) for _ in range(iterations)]

    clock.time("bookkeeping", trainer.on_epoch_start)
    clock.time("bookkeeping", trainer.on_train_epoch_start)
    trained = outputs("training", trainer.num_iterations_per_epoch, trainer.train_step, trainer.dataloader_train)
    clock.time("bookkeeping", trainer.on_train_epoch_end, trained)
    with torch.no_grad():
        clock.time("bookkeeping", trainer.on_validation_epoch_start)
        iterations = trainer.num_val_iterations_per_epoch
        validated = outputs("validation", iterations, trainer.validation_step, trainer.dataloader_val)
        clock.time("bookkeeping", trainer.on_validation_epoch_end, validated)
    clock.time("bookkeeping", trainer.on_epoch_end)
    return {**clock.seconds, "whole": sum(clock.seconds.values())}


def _time_samples(trainer, batches: int) -> dict[str, float]:
    """Seconds of a training sample, made in this process: loading, augmentation, and the rest, mostly cropping."""
    os.environ["nnUNet_n_proc_DA"], before = "0", os.environ.get("nnUNet_n_proc_DA")
    try:
        augmenter, _ = trainer.get_dataloaders()
    finally:
        del os.environ["nnUNet_n_proc_DA"]
        if before is not None:
            os.environ["nnUNet_n_proc_DA"] = before
    loader, clock = augmenter.data_loader, _Clock(lambda: None)
    load, augment = loader._data.load_case, loader.transforms
    loader._data.load_case = partial(clock.time, "loading", load)
    loader.transforms = partial(clock.time, "augmentation", augment)
    start = perf_counter()
    for _ in range(batches):
        next(augmenter)
    whole = perf_counter() - start
    clock.seconds["rest"] = whole - sum(clock.seconds.values())
    return {part: seconds / (batches * loader.batch_size) for part, seconds in clock.seconds.items()}


class _Clock:
    """Adds up the seconds of each part."""

    def __init__(self, synchronize: Callable[[], object]):
        self.synchronize = synchronize
        self.seconds: dict[str, float] = defaultdict(float)

    def time(self, part: str, function: Callable, *args, **kwargs):
        start = perf_counter()
        result = function(*args, **kwargs)
        self.synchronize()
        self.seconds[part] += perf_counter() - start
        return result
