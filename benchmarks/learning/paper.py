"""A data set of the papers by their own division and recipe, in the time that there is: one command from the download.

    python benchmarks/learning/paper.py RELEASE SRC [--device cuda] [--minutes 60] [--imagenet] [--models NAME ...]

SRC holds the whole official release. It is converted, preprocessed and divided as in the paper; the networks train one
after another with the paper's recipe for that data set, each for at most ``--minutes``, from random weights (with
``--imagenet``, DANIE from ImageNet weights as in its paper). Given again, the same command goes on: a network that is
not finished trains for another ``--minutes``. The weights that validated best so far predict the test cases. Writes
``paper_RELEASE.json``, with the epochs reached, and ``paper_RELEASE.md``: our rows in the paper's tables, and what
differs in protocol.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from record import RESULTS, excerpt, machine, tests, write_result
from study import Model, evaluate, plan, preprocess, preprocessed, results, run, split, summary_file, train

from nnunet_sfma.evaluation.compare import compare
from nnunet_sfma.evaluation.comparison_text import format_comparison
from nnunet_sfma.evaluation.evaluation_file import read_evaluation
from nnunet_sfma.files import replace_text
from nnunet_sfma.presets import load_preset
from nnunet_sfma.split_record import read_split_record


@dataclass(frozen=True)
class Release:
    """A data set of the papers: its number in nnU-Net, the preset with its recipe, and the networks compared on it."""

    dataset: int
    recipe: str
    models: tuple[str, ...]


OF_SFMANET = ("sfmanet", "unet", "nnunet")
OF_DANIE = ("sfmanet", "danie-s", "danie-l", "unet", "nnunet")
RELEASES = {
    "atlas": Release(500, "sfmanet-atlas", OF_SFMANET),
    "isles2022": Release(501, "sfmanet-isles2022", OF_SFMANET),
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
TRIAL = ("batch_size=2", "patch_size=[32,32]", "training.num_epochs=1", "training.iterations_per_epoch=2")
NARROW = {
    "sfmanet": "architecture.features_per_stage=[16,32,64,128,256]",
    "danie-s": "architecture.features_per_stage=[32,64,96,128]",
    "danie-l": "architecture.features_per_stage=[32,64,96,128]",
    "unet": "architecture.features_per_stage=[16,32,64,128,256]",
}
LATEST, BEST, FINAL = "checkpoint_latest.pth", "checkpoint_best.pth", "checkpoint_final.pth"
CURVES = ("train_losses", "val_losses", "mean_fg_dice", "lrs")
TESTED = ("dice",)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("release", choices=list(RELEASES))
    parser.add_argument("source", type=Path, help="folder of the download")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=60, help="of training, for each network")
    parser.add_argument("--imagenet", action="store_true", help="start DANIE from ImageNet weights")
    parser.add_argument("--models", nargs="+", choices=list(PRESETS), help="only these networks")
    parser.add_argument(
        "--narrow", action="store_true", help="tiny networks, one epoch of two steps: to try the command out"
    )
    parser.add_argument("-o", dest="output", type=Path, default=RESULTS, help="folder for the results")
    args = parser.parse_args(argv)
    release = RELEASES[args.release]
    dataset = release.dataset
    prepare(args.release, args.source, dataset)
    models = [_model(name, args.narrow) for name in args.models or release.models]
    for model in models:
        weights = "imagenet" if args.imagenet and model.name.startswith("danie") else "none"
        recipe = (*_recipe(release.recipe), f"training.pretrained={weights}", *(TRIAL if args.narrow else ()))
        train_for(dataset, model, recipe, args.minutes, args.device)
    evaluations = [read_evaluation(predict(dataset, model, args.device)) for model in models]
    args.output.mkdir(parents=True, exist_ok=True)
    write_result(args.output / f"paper_{args.release}.json", collect(dataset, models, evaluations, args.device))
    comparison = format_comparison(compare(evaluations, release=args.release))
    replace_text(args.output / f"paper_{args.release}.md", f"{comparison}\n")


def prepare(release: str, source: Path, dataset: int) -> None:
    """Convert, preprocess and divide, as far as it has not been done."""
    run(["nnunet-sfma", "convert", release, str(source), "-d", str(dataset)], f"{dataset}-convert")
    if not (preprocessed(dataset) / "nnUNetPlans_2d").is_dir():
        run(preprocess(dataset), f"{dataset}-preprocess")
    run(split(dataset, "paper"), f"{dataset}-splits")


def train_for(dataset: int, model: Model, recipe: Sequence[str], minutes: float, device: str) -> None:
    """Train a model, or go on with it, until it is finished or the time is over."""
    run(plan(dataset, model, recipe), f"{dataset}-plan-{model.name}")
    if summary_file(dataset, model, 0).is_file():
        return
    continued = (model.folder(dataset) / "fold_0" / LATEST).is_file()
    command = [*train(dataset, model, 0, device), *(["--c"] if continued else [])]
    run(command, f"{dataset}-train-{model.name}", minutes=minutes)


def predict(dataset: int, model: Model, device: str) -> Path:
    """Predict and evaluate the test cases; returns the folder of the predictions."""
    record = read_split_record(preprocessed(dataset))
    predictions = results(dataset) / "test" / model.name
    which = ["-d", str(dataset), "-c", "2d", "-tr", model.trainer, "-p", model.plans, "-f", "0", "-chk", BEST]
    places = ["-i", record.test_images, "-o", str(predictions)]
    run(["nnUNetv2_predict", *which, *places, "-device", device], f"{dataset}-predict-{model.name}")
    run(evaluate(predictions, Path(record.test_labels)), f"{dataset}-evaluate-{model.name}")
    return predictions


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


def _model(name: str, narrow: bool) -> Model:
    settings = (NARROW[name],) if narrow and name in NARROW else ()
    return Model(name, load_preset(PRESETS[name]).description, PRESETS[name], settings)


def _recipe(preset_name: str) -> tuple[str, ...]:
    """The whole recipe of a preset as settings, for any network."""
    preset = load_preset(preset_name)
    training = {f"training.{key}": value for key, value in preset.training.items() if key != "pretrained"}
    return tuple(f"{key}={json.dumps(value)}" for key, value in {**training, **preset.configuration}.items())


def _training(dataset: int, model: Model) -> dict:
    """Recipe, epochs reached, seconds and curves, from the newest checkpoint; only the final one is left at the end."""
    folder = model.folder(dataset) / "fold_0"
    path = next(folder / name for name in (FINAL, LATEST) if (folder / name).is_file())
    checkpoint = torch.load(path, map_location="cpu", weights_only=False, mmap=True)
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
