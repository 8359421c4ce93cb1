"""Five-fold cross-validation of narrow networks on the hippocampus data set of the Medical Segmentation Decathlon.

    python benchmarks/learning/hippocampus.py [-d 4] [--jobs 2] [--epochs 10] [--models sfmanet unet] [-o FOLDER]

Four networks of about equal multiply-adds and the six rows of SFMANet's ablation (one of them is SFMANet itself), all
with one recipe, the same number of iterations and the same five folds, on a CPU. nnU-Net's raw data must be in place
(``nnUNetv2_convert_MSD_dataset -i Task04_Hippocampus``). The same command again continues after an interruption.
Writes ``hippocampus.json`` and, for networks and ablation, the tables of ``nnunet-sfma report``.
"""

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from record import RESULTS, excerpt, machine, network_cost, tests, write_result
from study import (
    FROM_SCRATCH,
    TRAINING_ENVIRONMENT,
    Model,
    crossval,
    is_preprocessed,
    plan,
    preprocess,
    preprocessed,
    results,
    run,
    run_all,
    split,
)

from nnunet_sfma.evaluation.evaluation_file import read_evaluation

RECIPE = (
    "batch_size=16",
    "training.val_iterations_per_epoch=5",
    "training.optimizer=Adam",
    "training.initial_lr=0.001",
    "training.weight_decay=0",
    "training.weight_decay_on=all",
    "training.lr_schedule=poly",
    "training.dice_weight=1",
    "training.ce_weight=1",
    "training.test_time_mirroring=false",
    *FROM_SCRATCH,
)
HALF_OF_DANIE_S = ("architecture.features_per_stage=[32,64,128,256]", "architecture.depths=[2,2,5,2]")
QUARTER = ("architecture.features_per_stage=[16,32,64,128,256]",)
NETWORKS = (
    Model("sfmanet", "SFMANet, a quarter of its width", "sfmanet-ablation-full", QUARTER),
    Model("danie", "DANIE-S, half its width", "danie-narrow", HALF_OF_DANIE_S),
    Model("unet", "U-Net", "peer-unet", ("architecture.features_per_stage=[20,40,80,160,320]",)),
    Model("nnunet", "nnU-Net's 2d network", "peer-nnunet", ("architecture.features_per_stage=[26,52,104,208]",)),
)
ABLATION = (
    Model("row-unet", "U-Net alone", "sfmanet-ablation-unet", QUARTER),
    Model("row-sfgu", "U-Net + SFGU", "sfmanet-ablation-sfgu", QUARTER),
    Model("row-iem", "U-Net + IEM", "sfmanet-ablation-iem", QUARTER),
    Model("row-sfgu-dmau", "U-Net + SFGU + DMAU", "sfmanet-ablation-sfgu-dmau", QUARTER),
    Model("row-sfgu-iem", "U-Net + SFGU + IEM", "sfmanet-ablation-sfgu-iem", QUARTER),
    NETWORKS[0],
)
MODELS = {model.name: model for model in (*NETWORKS, *ABLATION)}
GROUPS = {"networks": NETWORKS, "ablation": ABLATION}
TESTED = ("dice", "hd95")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-d", dest="dataset", type=int, default=4, help="the data set's number in nnUNet_raw")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=50, help="of an epoch")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="trainings at a time")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS), help="only these")
    parser.add_argument("-o", dest="output", type=Path, default=RESULTS, help="folder for the results")
    args = parser.parse_args(argv)
    if args.output == RESULTS and set(args.models) != set(MODELS):
        parser.error("the committed results hold all models: with --models, name another folder with -o")
    models = [MODELS[name] for name in args.models]
    prepare(args.dataset, models, args.epochs, args.iterations)
    run_all({f"{args.dataset}-{model.name}": crossval(args.dataset, model) for model in models}, args.jobs)
    args.output.mkdir(parents=True, exist_ok=True)
    write_result(args.output / "hippocampus.json", collect(args.dataset, models))
    for group, members in GROUPS.items():
        write_tables(
            args.dataset, [model for model in members if model in models], args.output / f"hippocampus_{group}"
        )


def prepare(dataset: int, models: Sequence[Model], epochs: int, iterations: int) -> None:
    """Preprocess, divide and plan, as far as it has not been done."""
    if not is_preprocessed(dataset):
        run(preprocess(dataset), f"{dataset}-preprocess")
    if not (preprocessed(dataset) / "splits_final.json").is_file():
        run(split(dataset), f"{dataset}-splits")
    length = (f"training.num_epochs={epochs}", f"training.iterations_per_epoch={iterations}")
    for model in models:
        run(plan(dataset, model, (*length, *RECIPE)), f"{dataset}-plan-{model.name}")


def collect(dataset: int, models: Sequence[Model]) -> dict:
    """Every model's evaluation in excerpts, and paired tests within networks and within the ablation."""
    evaluations = {model.name: read_evaluation(model.folder(dataset)) for model in models}
    groups = {group: [model.name for model in members if model in models] for group, members in GROUPS.items()}
    return {
        "machine": machine(TRAINING_ENVIRONMENT),
        "groups": groups,
        "models": {
            model.name: {
                "title": model.title,
                "cost": network_cost(evaluations[model.name]),
                **excerpt(evaluations[model.name]),
            }
            for model in models
        },
        "tests": {
            group: tests([evaluations[name] for name in names], names, TESTED) for group, names in groups.items()
        },
    }


def write_tables(dataset: int, models: Sequence[Model], folder: Path) -> None:
    """The report's tables as Markdown, without those that list all cases and name places of this machine."""
    if not models:
        return
    report = results(dataset) / "study_report.html"
    evaluations = [str(model.folder(dataset)) for model in models]
    run(["nnunet-sfma", "report", *evaluations, "-o", str(report)], f"{dataset}-report")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for table in sorted(report.with_name("study_report_tables").glob("*.md")):
        if table.stem not in ("cases", "origin"):
            shutil.copy(table, folder)


if __name__ == "__main__":
    main()
