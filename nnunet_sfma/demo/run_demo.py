"""``nnunet-sfma demo``: convert, plan, train, predict and evaluate on the phantom, by a user's commands."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from nnunet_sfma.demo.commands import print_and_run
from nnunet_sfma.devices import refuse_missing_device
from nnunet_sfma.errors import UserError
from nnunet_sfma.json_files import read_json
from nnunet_sfma.nnunet_folders import VARIABLES

DATASET_ID = 900
TRAINING_CASES = 24
TEST_CASES = 4
WORKERS = min(4, os.cpu_count() or 1)
SEED = 5
PLANS = "demo"
TRAINER = "nnUNetTrainerSFMANet"
SETTINGS = (
    "training.num_epochs=12",
    "training.iterations_per_epoch=40",
    "training.val_iterations_per_epoch=5",
    "training.initial_lr=2e-3",
    "training.lr_schedule=poly",
    "training.test_time_mirroring=false",
    "batch_size=4",
)

DICE = {"type": "object", "required": ["Dice"], "properties": {"Dice": {"type": "number"}}}
SUMMARY = {
    "type": "object",
    "required": ["metric_per_case", "foreground_mean"],
    "properties": {
        "foreground_mean": DICE,
        "metric_per_case": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["prediction_file", "metrics"],
                "properties": {
                    "prediction_file": {"type": "string"},
                    "metrics": {"type": "object", "required": ["1"], "properties": {"1": DICE}},
                },
            },
        },
    },
}


@dataclass(frozen=True)
class DemoFolders:
    """Where the demo keeps its things; nnU-Net's three folders lie inside, so nothing of the user's is touched."""

    root: Path
    dataset: str = field(default=f"Dataset{DATASET_ID}_StrokePhantom", init=False)

    @property
    def environment(self) -> dict[str, str]:
        """nnU-Net's variables."""
        return {variable: str(self.root / variable) for variable in VARIABLES}

    @property
    def raw(self) -> Path:
        return self.root / "nnUNet_raw" / self.dataset

    @property
    def plans(self) -> Path:
        return self.root / "nnUNet_preprocessed" / self.dataset / f"{PLANS}.json"

    @property
    def model(self) -> Path:
        return self.root / "nnUNet_results" / self.dataset / f"{TRAINER}__{PLANS}__2d"

    @property
    def checkpoint(self) -> Path:
        return self.model / "fold_0" / "checkpoint_final.pth"

    @property
    def predictions(self) -> Path:
        return self.root / "predictions"

    @property
    def summary(self) -> Path:
        return self.predictions / "summary.json"


def run_demo(folder: Path, device: str | None) -> None:
    """Run the demo in ``folder``; what an interrupted run has finished is not done again.

    Args:
        folder: is created; holds data, model, predictions, logs and pictures afterwards.
        device: "cpu" or "cuda"; None takes CUDA if there is one.

    Raises:
        UserError: if there is no such device, the folder cannot be written or a command fails.
    """
    start = monotonic()
    refuse_missing_device(device or "cpu")
    folders = DemoFolders(folder.resolve())
    _create(folders)
    for command in _commands(folders, device or _best_device()):
        print_and_run(command, folders.environment, folders.root)
    _report(folders)
    print(f"\nThe demo took {(monotonic() - start) / 60:.1f} minutes. Everything lies in {folders.root}.")


def _create(folders: DemoFolders) -> None:
    try:
        for path in folders.environment.values():
            Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot write to {folders.root} ({error.strerror}): choose another folder with -o.") from error
    print(f"Working in {folders.root}, with nnU-Net's three variables set inside it:\n")
    for variable, path in folders.environment.items():
        print(f"  export {variable}={path}")


def _commands(folders: DemoFolders, device: str) -> list[list[str]]:
    """The commands that are still to run; each list is one command line."""
    identifier, workers = str(DATASET_ID), str(WORKERS)
    on_device = ["-device", device]
    model = ["-tr", TRAINER, "-p", PLANS]
    commands = []
    if not folders.raw.exists():
        numbers = ["--cases", str(TRAINING_CASES), "--test-cases", str(TEST_CASES), "--seed", str(SEED)]
        commands.append(["nnunet-sfma", "convert", "phantom", *numbers, "-d", identifier, "-np", workers])
    if not folders.plans.exists():
        processes = ["-np", workers, "-npfp", workers]
        integrity = "--verify_dataset_integrity"
        commands.append(["nnUNetv2_plan_and_preprocess", "-d", identifier, "-c", "2d", integrity, *processes])
        plan = ["nnunet-sfma", "plan", "-d", identifier, "--preset", "sfmanet-narrow", "--name", PLANS]
        commands.append([*plan, "--set", *SETTINGS])
    if not (folders.checkpoint.exists() and (folders.checkpoint.parent / "validation" / "summary.json").exists()):
        resume = ["--c"] if list(folders.model.glob("fold_0/checkpoint_*.pth")) else []
        commands.append(["nnUNetv2_train", identifier, "2d", "0", *model, *on_device, *resume])
    images, labels = str(folders.raw / "imagesTs"), str(folders.raw / "labelsTs")
    predict = ["nnUNetv2_predict", "-d", identifier, "-c", "2d", "-f", "0", *model, *on_device]
    commands.append([*predict, "-i", images, "-o", str(folders.predictions)])
    descriptions = [
        "-djfile",
        str(folders.predictions / "dataset.json"),
        "-pfile",
        str(folders.predictions / "plans.json"),
    ]
    commands.append(["nnUNetv2_evaluate_folder", labels, str(folders.predictions), *descriptions])
    return commands


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _report(folders: DemoFolders) -> None:
    from nnunet_sfma.demo.figures import draw_learning_curve, draw_overlays
    from nnunet_sfma.demo.threshold import threshold_dice

    summary = read_json(folders.summary, SUMMARY, advice="give the same command again")
    print("\nDice of the held-out phantoms:")
    for case in summary["metric_per_case"]:
        print(f"  {Path(case['prediction_file']).name.split('.')[0]}  {case['metrics']['1']['Dice']:.3f}")
    threshold = threshold_dice(folders.raw)
    print(f"  mean         {summary['foreground_mean']['Dice']:.3f}")
    print(f"  (the best plain intensity threshold of the training cases scores {threshold:.3f})")
    overlays = draw_overlays(folders.raw, folders.predictions, folders.root / "overlay.png")
    curve = draw_learning_curve(folders.checkpoint, folders.root / "learning_curve.png")
    print(f"\nLook at {overlays} and {curve}.")
