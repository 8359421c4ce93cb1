"""A data set of the papers by their own division and recipe, in the time that there is: one command from the download.

    python benchmarks/learning/paper.py RELEASE SRC [--device cuda] [--minutes 60] [--imagenet] [--models NAME ...]

SRC holds the whole official release. It is converted, preprocessed and divided as in the paper; the networks train one
after another with the recipe for that data set and one seed, each for at most ``--minutes``, from random weights
(with ``--imagenet``, DANIE, and only DANIE, from ImageNet weights as in its paper). Given again, the same command goes
on: a network that is not finished trains for another ``--minutes``. Test cases are predicted by the weights that
validated best so far (before the first epoch has ended, by the latest). Stroke is trained on and predicted in SFMANet's
slices, along X and resized to 256 x 256, which are stacked before they are scored: scores are of volumes. Writes
``paper_RELEASE.json``, with the epochs reached, and ``paper_RELEASE.md``, our rows in the paper's tables and what
differs in protocol, after each network.
"""

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from record import RESULTS, excerpt, machine, tests, write_result
from study import Model, crossval, evaluate, is_preprocessed, plan, preprocess, preprocessed, results, run, split

from nnunet_sfma.evaluation.compare import compare
from nnunet_sfma.evaluation.comparison_text import format_comparison
from nnunet_sfma.evaluation.evaluation_file import read_evaluation
from nnunet_sfma.files import replace_text
from nnunet_sfma.presets import load_preset
from nnunet_sfma.split_record import read_split_record
from nnunet_sfma.trainers.checkpoints import BEST, FINAL, LATEST


@dataclass(frozen=True)
class Release:
    """A data set of the papers: its number in nnU-Net, the preset with its recipe, and the networks compared on it.

    Attributes:
        in_slices: whether it is converted to the paper's slices.
    """

    dataset: int
    recipe: str
    models: tuple[str, ...]
    in_slices: bool = False


OF_SFMANET = ("sfmanet", "unet", "nnunet")
OF_DANIE = ("sfmanet", "danie-s", "danie-l", "unet", "nnunet")
RELEASES = {
    "atlas": Release(510, "sfmanet-atlas", OF_SFMANET, in_slices=True),
    "isles2022": Release(511, "sfmanet-isles2022", OF_SFMANET, in_slices=True),
    "synapse": Release(502, "danie-l-synapse", OF_DANIE),
    "acdc": Release(27, "danie-l-acdc", OF_DANIE),
    "isic2017": Release(503, "danie-l-isic", OF_DANIE),
    "isic2018": Release(504, "danie-l-isic", OF_DANIE),
    "glas": Release(505, "danie-l-glas", OF_DANIE),
}
PRESETS = {
    "sfmanet": "sfmanet",
    "danie-s": "danie-s",
    "danie-l": "danie-l",
    "unet": "peer-unet",
    "nnunet": "peer-nnunet",
}
TRIAL = ("batch_size=2", "training.num_epochs=1", "training.iterations_per_epoch=2")
SMALL_PATCH = "patch_size=[128,128]"
NARROW = {
    "sfmanet": ("architecture.features_per_stage=[16,32,64,128,256]", SMALL_PATCH),
    "danie-s": ("architecture.features_per_stage=[32,64,96,128]", SMALL_PATCH),
    "danie-l": ("architecture.features_per_stage=[32,64,96,128]", SMALL_PATCH),
    "unet": ("architecture.features_per_stage=[16,32,64,128,256]", SMALL_PATCH),
    "nnunet": (),  # its stages belong to the plan's patch
}
CURVES = ("train_losses", "val_losses", "mean_fg_dice", "lrs")
TESTED = ("dice",)


def main(argv: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    release, variant = RELEASES[args.release], _variant(args)
    prepare(args.release, args.source)
    args.output.mkdir(parents=True, exist_ok=True)
    models, evaluations = [], []
    for name in args.models or release.models:
        model = Model(f"{name}{variant}", load_preset(PRESETS[name]).description, PRESETS[name])
        weights = "imagenet" if args.imagenet and name.startswith("danie") else "none"
        settings = (f"training.pretrained={weights}", *((*TRIAL, *NARROW[name]) if args.narrow else ()))
        run(plan(release.dataset, model, (*recipe(release.recipe), *settings)), f"{release.dataset}-plan-{model.name}")
        training = crossval(release.dataset, model, args.device, os.cpu_count())
        run(training, f"{release.dataset}-train-{model.name}", minutes=args.minutes)
        if newest(release.dataset, model) is None:
            print(f"{model.name} has no checkpoint after {args.minutes:g} minutes: give the command again, or it more.")
            continue
        models.append(model)
        evaluations.append(read_evaluation(predict(release, model, args.device)))
        target = args.output / f"paper_{args.release}{variant}.json"
        write_result(target, collect(release.dataset, models, evaluations, args.device))
        comparison = format_comparison(compare(evaluations, release=args.release))
        replace_text(target.with_suffix(".md"), f"{comparison}\n")


def prepare(name: str, source: Path) -> None:
    """Convert, preprocess and divide, as far as it has not been done."""
    dataset, slices = RELEASES[name].dataset, ["--paper-slices"] if RELEASES[name].in_slices else []
    run(["nnunet-sfma", "convert", name, str(source), "-d", str(dataset), *slices], f"{dataset}-convert")
    if not is_preprocessed(dataset):
        run(preprocess(dataset), f"{dataset}-preprocess")
    run(split(dataset, "paper"), f"{dataset}-splits")


def recipe(preset_name: str) -> tuple[str, ...]:
    """The whole recipe of a preset as settings, for any network, with a seed."""
    preset = load_preset(preset_name)
    training = {f"training.{key}": value for key, value in preset.training.items() if key != "pretrained"}
    settings = {**training, "training.seed": 1, **preset.configuration}
    return tuple(f"{key}={json.dumps(value)}" for key, value in settings.items())


def newest(dataset: int, model: Model) -> Path | None:
    """The newest checkpoint of a training; only the final one and the best are left at its end."""
    folder = model.folder(dataset) / "fold_0"
    return next((folder / name for name in (FINAL, LATEST) if (folder / name).is_file()), None)


def predict(release: Release, model: Model, device: str) -> Path:
    """Predict and evaluate the test cases, slices as volumes; returns the folder of what was evaluated."""
    dataset = release.dataset
    record = read_split_record(preprocessed(dataset))
    predictions, labels = results(dataset) / "test" / model.name, Path(record.test_labels)
    checkpoint = BEST if (model.folder(dataset) / "fold_0" / BEST).is_file() else LATEST
    which = ["-d", str(dataset), "-c", "2d", "-tr", model.trainer, "-p", model.plans, "-f", "0", "-chk", checkpoint]
    places = ["-i", record.test_images, "-o", str(predictions)]
    run(["nnUNetv2_predict", *which, *places, "-device", device], f"{dataset}-predict-{model.name}")
    if release.in_slices:
        predictions, labels = stack(dataset, predictions), stack(dataset, labels)
    run(evaluate(predictions, labels), f"{dataset}-evaluate-{model.name}")
    return predictions


def stack(dataset: int, slices: Path) -> Path:
    """Put slices back into volumes, in place of earlier ones; returns their folder, of the same name."""
    volumes = results(dataset) / "test_volumes" / slices.name
    shutil.rmtree(volumes, ignore_errors=True)
    run(["nnunet-sfma", "stack", "-d", str(dataset), "-i", str(slices), "-o", str(volumes)], f"{dataset}-stack")
    return volumes


def collect(dataset: int, models: Sequence[Model], evaluations: Sequence[dict], device: str) -> dict:
    """Every model's evaluation in excerpts with its epochs, and paired tests between all."""
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    return {
        "machine": {**machine({}), "device": device, "gpu": gpu},
        "models": {
            model.name: {"title": model.title, **_training(dataset, model), **excerpt(evaluation)}
            for model, evaluation in zip(models, evaluations, strict=True)
        },
        "tests": tests(evaluations, [model.name for model in models], TESTED),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("release", choices=list(RELEASES))
    parser.add_argument("source", type=Path, help="folder of the download")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=60, help="of training, for each network")
    parser.add_argument("--imagenet", action="store_true", help="start DANIE from ImageNet weights")
    parser.add_argument("--models", nargs="+", choices=list(PRESETS), help="only these networks")
    parser.add_argument("--narrow", action="store_true", help="tiny networks, two steps: to try the command out")
    parser.add_argument("-o", dest="output", type=Path, default=RESULTS, help="folder for the results")
    return parser


def _variant(args: argparse.Namespace) -> str:
    """Names apart what must not be mixed: plans and results of trials, and of DANIE's two starts."""
    return ("-imagenet" if args.imagenet else "") + ("-trial" if args.narrow else "")


def _training(dataset: int, model: Model) -> dict:
    """Recipe, epochs reached, seconds and curves of a training."""
    checkpoint = torch.load(newest(dataset, model), map_location="cpu", weights_only=False, mmap=True)
    log, plans = checkpoint["logging"], checkpoint["init_args"]["plans"]
    times = zip(log["epoch_start_timestamps"], log["epoch_end_timestamps"], strict=False)
    return {
        "epochs": checkpoint["current_epoch"],
        "seconds": round(sum(end - start for start, end in times)),
        "training": plans["configurations"]["2d"]["training"],
        "curves": {key: [round(float(value), 5) for value in log[key]] for key in CURVES},
    }


if __name__ == "__main__":
    main()
