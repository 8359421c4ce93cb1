"""Do the networks learn what they should, and nothing else? Three checks on real pictures of ISIC 2018, on a CPU.

    python benchmarks/learning/sanity.py SRC [--jobs 2] [-o FOLDER]

overfit    SFMANet, DANIE-S and DANIE-L, each at its full width, learn four pictures by heart: Dice above 0.97 on them
repeat     two trainings with one seed have the same curves to the last digit, one with another seed has others
shuffled   trained with the masks of other pictures, a network is no better on held-out pictures than one constant mask,
           while the same training with the true masks is

SRC holds the official folders of ISIC 2018 Task 1. The pictures are converted to 64 x 64 pixels, as data sets 951 to
953 of nnU-Net's folders. What is finished is not done again: remove these data sets and their results to begin anew.
Writes ``sanity.json``; exit code 1 if a check fails.
"""

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from record import RESULTS, machine, write_result
from study import (
    TRAINING_ENVIRONMENT,
    Model,
    held_out,
    plan_and_train,
    preprocess,
    preprocessed,
    raw_folder,
    run,
    split,
    summary_file,
    trained_on,
)

from nnunet_sfma.errors import UserError
from nnunet_sfma.nnunet_folders import nnunet_folder

FEW, TRUE, SHUFFLED = 951, 952, 953
PICTURES = {FEW: 4, TRUE: 60}
FOLDERS = ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth")
SIDE = 64
RECIPE = (
    f"patch_size=[{SIDE},{SIDE}]",
    "training.optimizer=Adam",
    "training.initial_lr=0.001",
    "training.weight_decay=0",
    "training.lr_schedule=poly",
    "training.val_iterations_per_epoch=2",
    "training.test_time_mirroring=false",
    "training.pretrained=none",
)
BY_HEART = ("batch_size=4", "training.augmentation=none", "training.num_epochs=8", "training.iterations_per_epoch=25")
SHORT = ("batch_size=8", "training.num_epochs=3", "training.iterations_per_epoch=5")
LONGER = ("batch_size=8", "training.num_epochs=6", "training.iterations_per_epoch=50")
NETWORKS = [
    Model(preset, title, preset)
    for preset, title in (("sfmanet", "SFMANet"), ("danie-s", "DANIE-S"), ("danie-l", "DANIE-L"))
]
SEEDED = [
    Model(name, "SFMANet, a quarter of its width", "sfmanet-narrow", (f"training.seed={seed}",))
    for name, seed in (("first", 1), ("same-seed", 1), ("other-seed", 2))
]
LEARNER = Model("learner", "SFMANet, a quarter of its width", "sfmanet-narrow")
CURVES = ("train_losses", "val_losses", "mean_fg_dice")
BY_HEART_DICE = 0.97
MARGIN = 0.05


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="folder that holds the official folders of ISIC 2018 Task 1")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trainings at a time")
    parser.add_argument("-o", dest="output", type=Path, default=RESULTS, help="folder for the results")
    args = parser.parse_args(argv)
    for dataset, pictures in PICTURES.items():
        if not _is_there(dataset):
            convert(args.source, dataset, pictures)
    run(split(TRUE), f"{TRUE}-splits")
    if not _is_there(SHUFFLED):
        shuffle_masks()
    copy_split()
    checks = {"overfit": overfit(args.jobs), "repeat": repeat(args.jobs), "shuffled": shuffled(args.jobs)}
    args.output.mkdir(parents=True, exist_ok=True)
    write_result(args.output / "sanity.json", {"machine": machine(TRAINING_ENVIRONMENT), **checks})
    failed = [name for name, check in checks.items() if not check["holds"]]
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}")


def overfit(jobs: int) -> dict:
    """Dice of each network on the four pictures that it was trained with."""
    plan_and_train(FEW, NETWORKS, (*RECIPE, *BY_HEART, "training.seed=1"), "all", jobs)
    dice = {model.title: _dice(FEW, model, "all") for model in NETWORKS}
    return {
        "pictures": PICTURES[FEW],
        "above": BY_HEART_DICE,
        "dice": dice,
        "holds": min(dice.values()) > BY_HEART_DICE,
    }


def repeat(jobs: int) -> dict:
    """The curves of three trainings, two of which share a seed."""
    plan_and_train(TRUE, SEEDED, (*RECIPE, *SHORT), 0, jobs)
    first, same, other = curves = [_curves(TRUE, model) for model in SEEDED]
    named = {model.name: curve for model, curve in zip(SEEDED, curves, strict=True)}
    return {"curves": named, "holds": first == same and first["train_losses"] != other["train_losses"]}


def shuffled(jobs: int) -> dict:
    """Dice on held-out pictures with their true masks: of both trainings, and of the best constant mask."""
    for dataset in (TRUE, SHUFFLED):
        plan_and_train(dataset, [LEARNER], (*RECIPE, *LONGER, "training.seed=1"), 0, jobs)
    true, other = (_dice(dataset, LEARNER, 0) for dataset in (TRUE, SHUFFLED))
    constant = dice_of_constant_mask()
    return {
        "pictures": {"training": len(trained_on(TRUE)), "held_out": len(held_out(TRUE))},
        "dice": {"true masks": true, "masks of other pictures": other, "the best constant mask": constant},
        "margin": MARGIN,
        "holds": other < constant + MARGIN < true,
    }


def convert(source: Path, dataset: int, pictures: int) -> None:
    """Convert pictures spread over the whole release, and preprocess them."""
    subset = nnunet_folder("nnUNet_raw") / "sanity" / str(dataset)
    shutil.rmtree(subset, ignore_errors=True)
    for folder in FOLDERS:
        (subset / folder).mkdir(parents=True)
        files = sorted((source / folder).glob("ISIC_*"))
        if len(files) < pictures:
            raise UserError(
                f"{source / folder} holds {len(files)} files, {pictures} are needed: name the official folders."
            )
        for file in files[:: len(files) // pictures][:pictures]:
            (subset / folder / file.name).symlink_to(file.absolute())
    which = ["-d", str(dataset), "--size", str(SIDE)]
    run(["nnunet-sfma", "convert", "isic2018", str(subset), *which], f"{dataset}-convert")
    run(preprocess(dataset), f"{dataset}-preprocess")


def shuffle_masks() -> None:
    """A copy of the data set in which every training picture of fold 0 has the mask of another one."""
    original, cases = raw_folder(TRUE), trained_on(TRUE)
    copy = original.with_name(original.name.replace(str(TRUE), str(SHUFFLED)))
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(original, copy)
    half = len(cases) // 2
    for case, other in zip(cases, cases[half:] + cases[:half], strict=True):
        shutil.copy(original / "labelsTr" / f"{other}.png", copy / "labelsTr" / f"{case}.png")
    run(preprocess(SHUFFLED), f"{SHUFFLED}-preprocess")


def copy_split() -> None:
    """Give the shuffled data set the folds of the true one."""
    for name in ("splits_final.json", "split_record.json"):
        shutil.copy(preprocessed(TRUE) / name, preprocessed(SHUFFLED) / name)


def dice_of_constant_mask() -> float:
    """Dice on the held-out pictures of the mask, one for all, that fits the training pictures best."""
    training, test = (np.stack([_mask(case) for case in cases]) for cases in (trained_on(TRUE), held_out(TRUE)))
    frequency = training.mean(0)
    best = max(np.unique(frequency), key=lambda least: _mean_dice(frequency >= least, training))
    return _mean_dice(frequency >= best, test)


def _is_there(dataset: int) -> bool:
    return any(nnunet_folder("nnUNet_preprocessed").glob(f"Dataset{dataset}_*/gt_segmentations"))


def _mean_dice(mask: np.ndarray, masks: np.ndarray) -> float:
    return float(np.mean(2 * (mask & masks).sum((1, 2)) / (mask.sum() + masks.sum((1, 2)))))


def _mask(case: str) -> np.ndarray:
    return np.asarray(Image.open(raw_folder(TRUE) / "labelsTr" / f"{case}.png")) > 0


def _dice(dataset: int, model: Model, fold: int | str) -> float:
    return json.loads(summary_file(dataset, model, fold).read_text())["foreground_mean"]["Dice"]


def _curves(dataset: int, model: Model) -> dict[str, list[float]]:
    path = model.folder(dataset) / "fold_0" / "checkpoint_final.pth"
    log = torch.load(path, map_location="cpu", weights_only=False)["logging"]
    return {key: [float(value) for value in log[key]] for key in CURVES}


if __name__ == "__main__":
    main()
