"""A few real cases of ACDC, GlaS or ISIC 2017, from the download to the evaluation: that it works, not how well.

    python benchmarks/learning/end_to_end.py acdc|glas|isic2017 SRC [-d ID] [--epochs 4] [-o FOLDER]

Converts what of the official release lies in SRC, trains a narrow DANIE with the data set's recipe (shorter, in smaller
batches, with a higher learning rate and without ImageNet weights), predicts images that it has not seen as a user would
predict any folder, and evaluates them: the release's test cases where SRC has some, else those of fold 0. Writes
``end_to_end_<data set>.json`` with every command, its seconds and the scores.
"""

import argparse
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from record import RESULTS, excerpt, machine, write_result
from study import (
    FROM_SCRATCH,
    TRAINING_ENVIRONMENT,
    Model,
    evaluate,
    held_out,
    plan,
    preprocess,
    preprocessed,
    raw_folder,
    results,
    run,
    split,
    train,
    trained_on,
)

from nnunet_sfma.evaluation.evaluation_file import read_evaluation
from nnunet_sfma.nnunet_folders import VARIABLES, nnunet_folder

PRESETS = {"acdc": "danie-s-acdc", "glas": "danie-s-glas", "isic2017": "danie-s-isic"}
NUMBERS = {"acdc": 961, "glas": 962, "isic2017": 963}
NARROW = ("architecture.features_per_stage=[32,64,96,128]", "architecture.depths=[1,1,1,1]")
RECIPE = (
    "batch_size=4",
    "training.val_iterations_per_epoch=5",
    "training.initial_lr=0.001",
    *FROM_SCRATCH,
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("release", choices=list(PRESETS))
    parser.add_argument("source", type=Path, help="folder of the download, or of a part of it")
    parser.add_argument("-d", dest="dataset", type=int, help="number to convert to (961 to 963)")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=25, help="of an epoch")
    parser.add_argument("-o", dest="output", type=Path, default=RESULTS, help="folder for the results")
    args = parser.parse_args(argv)
    dataset = args.dataset or NUMBERS[args.release]
    model = Model(args.release, "DANIE, narrow", PRESETS[args.release], NARROW)
    seconds: dict[str, float] = {}

    def step(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        taken = run(command, f"{dataset}-{len(seconds)}", environment)
        seconds[_anywhere(command, args.source)] = round(taken, 1)

    step(["nnunet-sfma", "convert", args.release, str(args.source), "-d", str(dataset)])
    step(preprocess(dataset))
    fold, images, labels = unseen(dataset)
    if fold != "all":
        step(split(dataset))
    length = (f"training.num_epochs={args.epochs}", f"training.iterations_per_epoch={args.iterations}")
    step(plan(dataset, model, (*length, *RECIPE)))
    step(train(dataset, model, fold), TRAINING_ENVIRONMENT)
    if fold != "all":
        link_held_out(dataset, images, labels)
    predictions = results(dataset) / "predictions"
    which = ["-d", str(dataset), "-tr", model.trainer, "-p", model.plans, "-f", fold, "-device", "cpu", "--overwrite"]
    step(["nnunet-sfma", "predict", *which, "-i", str(images), "-o", str(predictions)], TRAINING_ENVIRONMENT)
    step(evaluate(predictions, labels))
    args.output.mkdir(parents=True, exist_ok=True)
    result = {
        "machine": machine(TRAINING_ENVIRONMENT),
        "seconds": seconds,
        "training_cases": len(
            trained_on(dataset) if fold != "all" else list((raw_folder(dataset) / "labelsTr").iterdir())
        ),
        "iterations": args.epochs * args.iterations,
        **excerpt(read_evaluation(predictions)),
    }
    write_result(args.output / f"end_to_end_{args.release}.json", result)


def _anywhere(command: Sequence[str], source: Path) -> str:
    """The command without the paths of this machine."""
    places = {str(nnunet_folder(variable)): f"${variable}" for variable in VARIABLES}
    words = []
    for word in command:
        root = next((place for place in places if word.startswith(f"{place}/")), None)
        short = word.replace(root, places[root], 1) if root else shlex.quote(word)
        words.append("SRC" if word == str(source) else short)
    return " ".join(words)


def unseen(dataset: int) -> tuple[str, Path, Path]:
    """The fold to train, and the folders of images and labels that it does not see."""
    raw = raw_folder(dataset)
    if (raw / "labelsTs").is_dir():
        return "all", raw / "imagesTs", raw / "labelsTs"
    return "0", results(dataset) / "held_out" / "images", results(dataset) / "held_out" / "labels"


def link_held_out(dataset: int, images: Path, labels: Path) -> None:
    """Fill folders with the images and the labels of the cases that fold 0 validates on."""
    raw = raw_folder(dataset)
    for target, source in ((images, raw / "imagesTr"), (labels, preprocessed(dataset) / "gt_segmentations")):
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for case in held_out(dataset):
            for file in (*source.glob(f"{case}.*"), *source.glob(f"{case}_0*")):
                (target / file.name).symlink_to(file.absolute())


if __name__ == "__main__":
    main()
