"""Evaluations as ``nnunet-sfma evaluate`` writes them, without images: for comparisons, reports and tables."""

import zlib
from collections.abc import Sequence

import numpy as np

METRICS = {
    "dice": ("Dice", "", "higher"),
    "iou": ("IoU", "", "higher"),
    "miou": ("mIoU", "", "higher"),
    "precision": ("Precision", "", "higher"),
    "recall": ("Recall (sensitivity)", "", "higher"),
    "f1": ("F1", "", "higher"),
    "specificity": ("Specificity", "", "higher"),
    "accuracy": ("Accuracy", "", "higher"),
    "hd95": ("HD95", "mm", "lower"),
    "asd": ("ASD", "mm", "lower"),
    "volume_difference": ("Volume difference", "ml", "lower"),
}
CONVENTIONS = {
    "empty": "nnunet",
    "average": "volume",
    "miou": "foreground",
    "f1": "mean-of-f1",
    "distances": "mm",
    "nsd_tolerance": 1.0,
}
TRAINING = {
    "num_epochs": 50,
    "iterations_per_epoch": "one_pass",
    "slices": "all",
    "optimizer": "Adam",
    "initial_lr": 0.0001,
    "lr_schedule": "plateau",
    "dice_weight": 1.0,
    "ce_weight": 1.0,
    "augmentation": "nnunet",
    "test_time_mirroring": True,
    "pretrained": "none",
}


def make_evaluation(
    name: str = "nnUNetTrainerSFMANet / sfmanet / 2d",
    cases: int | Sequence[str] = 10,
    classes: Sequence[str] = ("lesion",),
    release: str | None = None,
    folds: int = 5,
    cases_per_subject: int = 1,
    quality: float = 0.8,
    dataset: str = "Dataset501_Made",
) -> dict:
    """A valid evaluation with random but consistent numbers, always the same for the same arguments.

    Args:
        name: of the model, ``trainer / plans / configuration``, or of a plain folder of predictions.
        cases: how many, or their names.
        classes: foreground classes.
        release: what the data set was converted from.
        folds: 0 makes it the evaluation of a plain folder of predictions, without model, split and curves.
        cases_per_subject: neighbours in the list share a subject.
        quality: about the Dice that the model reaches.
        dataset: nnU-Net's name.
    """
    names = [f"case_{number:03d}" for number in range(cases)] if isinstance(cases, int) else list(cases)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    entries = [
        _case(case, number // cases_per_subject, folds, classes, quality, name, rng)
        for number, case in enumerate(names)
    ]
    return {
        "format": 1,
        "written_by": "nnunet-sfma 0.1.0",
        "written_at": "2026-11-21T22:00:00+00:00",
        "name": name,
        "dataset": {
            "name": dataset,
            "file_ending": ".nii.gz",
            "channels": ["MRI"],
            "classes": list(classes),
            "class_labels": {label: [value] for value, label in enumerate(classes, 1)},
            "background_label": 0,
            "unit": "mm",
            "volume_unit": "ml",
            "slice_axis": 0,
            "release": release,
            "release_options": {},
        },
        "model": _model(name) if folds else None,
        "conventions": dict(CONVENTIONS),
        "convention": ", ".join(f"{key}={value}" for key, value in CONVENTIONS.items()),
        "convention_texts": {key: f"The convention {key} is {value}." for key, value in CONVENTIONS.items()},
        "metrics": [
            {"key": key, "title": title, "unit": unit, "better": better, "text": title}
            for key, (title, unit, better) in METRICS.items()
        ],
        "split": _split(folds),
        "folds": [_fold(fold, entries) for fold in range(folds)],
        "missing": [],
        "cases": entries,
        "summary": _summary(entries, classes),
        "detection_by_size": None,
        "subset": False,
        "commands": ["nnunet-sfma evaluate -d 501"],
        "versions": {"nnunet-sfma": "0.1.0", "nnunetv2": "2.8.1"},
        "hardware": {"machine": "x86_64", "cpu": "made", "cores": 2, "gpu": None},
        "path": f"/results/{name.replace(' / ', '__')}/evaluation/evaluation.json",
    }


def set_scores(evaluation: dict, metric: str, values: Sequence[float | None]) -> dict:
    """Give a metric one value in each case, for all classes and their mean, and make the summary again."""
    for case, value in zip(evaluation["cases"], values, strict=True):
        for scores in (*case["classes"].values(), case["mean"]):
            scores[metric] = value
    evaluation["summary"] = _summary(evaluation["cases"], evaluation["dataset"]["classes"])
    return evaluation


def _case(
    case: str, subject: int, folds: int, classes: Sequence[str], quality: float, model: str, rng: np.random.Generator
) -> dict:
    scores = {label: _scores(quality, rng) for label in classes}
    shared = [key for key in METRICS if key != "miou"]
    mean = {key: float(np.mean([each[key] for each in scores.values()])) for key in shared}
    return {
        "case": case,
        "fold": subject % folds if folds else None,
        "subject": f"subject_{subject:03d}",
        "prediction": f"/results/{model.replace(' / ', '__')}/{case}.nii.gz",
        "reference": f"/preprocessed/gt_segmentations/{case}.nii.gz",
        "reference_sha256": f"{zlib.crc32(case.encode()):064x}",
        "images": [f"/raw/imagesTr/{case}_0000.nii.gz"],
        "spacing": [4.0, 0.9, 0.9],
        "shape": [5, 40, 32],
        "classes": scores,
        "mean": {**mean, "miou": mean["iou"]},
    }


def _scores(quality: float, rng: np.random.Generator) -> dict:
    """From counts, so that the metrics agree with each other."""
    tp = int(rng.integers(60, 140))
    wrong = max(1, round(tp * (1 / quality - 1) * rng.uniform(0.5, 1.5)))
    fp, fn, tn = wrong, wrong + int(rng.integers(0, 10)), 5000
    dice = 2 * tp / (2 * tp + fp + fn)
    volumes = {"volume_reference": (tp + fn) / 1000, "volume_prediction": (tp + fp) / 1000}
    return {
        "dice": dice,
        "iou": tp / (tp + fp + fn),
        "precision": tp / (tp + fp),
        "recall": tp / (tp + fn),
        "f1": dice,
        "specificity": tn / (tn + fp),
        "accuracy": (tp + tn) / (tp + fp + fn + tn),
        "hd95": float(rng.uniform(1, 10)),
        "asd": float(rng.uniform(0.3, 3)),
        "volume_difference": abs(volumes["volume_reference"] - volumes["volume_prediction"]),
        **volumes,
        "lesions": {"reference": [[volumes["volume_reference"], True]], "predicted": 1, "false": 0},
    }


def _model(name: str) -> dict:
    trainer, plans, configuration = name.split(" / ")
    return {
        "trainer": trainer,
        "plans": plans,
        "configuration": configuration,
        "folder": f"/results/{trainer}__{plans}__{configuration}",
        "network": trainer.removeprefix("nnUNetTrainer") or "PlainConvUNet",
        "architecture": {"network_class_name": "made", "arch_kwargs": {}},
        "training": dict(TRAINING),
        "patch_size": [256, 256],
        "batch_size": 16,
        "spacing": [0.9, 0.9],
        "normalization": ["ZScoreNormalization"],
    }


def _split(folds: int) -> dict:
    if not folds:
        return {"part": "predictions", "sha256": None, "scheme": None, "seed": None, "source": None}
    return {
        "sha256": "0123456789abcdef" * 4,
        "scheme": "five-fold",
        "seed": 12345,
        "source": "five folds by subject",
        "part": "cross-validation",
        "subjects_known": True,
    }


def _fold(fold: int, cases: list[dict]) -> dict:
    epochs = np.arange(50)
    falling = (1 - epochs / 60).tolist()
    rising = (0.2 + epochs / 80).tolist()
    return {
        "fold": fold,
        "state": "finished",
        "detail": "50 of 50 epochs",
        "cases": sum(case["fold"] == fold for case in cases),
        "curves": {
            "train_losses": falling,
            "val_losses": falling,
            "mean_fg_dice": rising,
            "ema_fg_dice": rising,
            "lrs": [0.0001] * len(epochs),
        },
        "seconds": 1234.5,
        "device": "cpu",
        "command": f"nnUNetv2_train 501 2d {fold} -tr nnUNetTrainerSFMANet -p sfmanet",
    }


def _summary(cases: list[dict], classes: Sequence[str]) -> dict:
    folds = [case["fold"] for case in cases]
    return {
        "classes": {
            label: {
                key: _statistic([case["classes"][label][key] for case in cases], folds)
                for key in METRICS
                if key != "miou"
            }
            for label in classes
        },
        "mean": {key: _statistic([case["mean"][key] for case in cases], folds) for key in METRICS},
    }


def _statistic(values: list[float | None], folds: list[int | None]) -> dict:
    there = [(value, fold) for value, fold in zip(values, folds, strict=True) if value is not None]
    numbers = [value for value, _ in there]
    by_fold = [
        float(np.mean([value for value, own in there if own == fold]))
        for fold in sorted({fold for _, fold in there} - {None})
    ]
    mean, sd = float(np.mean(numbers)), float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None
    half = 1.96 * (sd or 0) / len(numbers) ** 0.5
    return {
        "mean": mean,
        "sd": sd,
        "n": len(numbers),
        "low": mean - half,
        "high": mean + half,
        "folds": by_fold,
        "mean_of_folds": float(np.mean(by_fold)) if by_fold else None,
        "sd_of_folds": float(np.std(by_fold, ddof=1)) if len(by_fold) > 1 else None,
    }
