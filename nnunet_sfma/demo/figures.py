"""The demo's two pictures."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("agg")
import matplotlib.pyplot as plt

from nnunet_sfma.demo.volumes import read_volume

TRUTH_COLOUR = "#1f9e89"
PREDICTION_COLOUR = "#ff5c39"


def draw_overlays(dataset: Path, predictions: Path, target: Path) -> Path:
    """Draw each test case's slice with the largest lesion area, with label and prediction as contours.

    Args:
        dataset: nnU-Net raw data set with imagesTs and labelsTs.
        predictions: folder of predictions named like the labels.
        target: the PNG to write.
    """
    labels = sorted((dataset / "labelsTs").glob("*.nii.gz"))
    figure, axes = plt.subplots(2, len(labels), figsize=(3 * len(labels), 6.4), squeeze=False)
    for (plain, overlay), label_path in zip(axes.T, labels, strict=True):
        image = read_volume(dataset / "imagesTs" / label_path.name.replace(".nii.gz", "_0000.nii.gz"))
        truth, predicted = read_volume(label_path), read_volume(predictions / label_path.name)
        index = int(np.argmax((truth > 0).sum((1, 2)) + (predicted > 0).sum((1, 2))))
        for axis in (plain, overlay):
            axis.imshow(image[index], cmap="gray", interpolation="nearest")
            axis.axis("off")
        plain.set_title(f"{label_path.name.split('.')[0]}, slice {index}", fontsize=9)
        for mask, colour in ((truth, TRUTH_COLOUR), (predicted, PREDICTION_COLOUR)):
            if mask[index].any():
                overlay.contour(mask[index] > 0, levels=[0.5], colors=[colour], linewidths=1.2)
    handles = [plt.Line2D([], [], color=colour) for colour in (TRUTH_COLOUR, PREDICTION_COLOUR)]
    figure.legend(handles, ["label", "prediction"], loc="lower center", ncols=2, frameon=False)
    return _save(figure, target)


def draw_learning_curve(checkpoint: Path, target: Path) -> Path:
    """Draw losses, Dice and learning rate over the epochs from the log that nnU-Net keeps in its checkpoints.

    Args:
        checkpoint: a ``checkpoint_final.pth`` of this plugin's trainers.
        target: the PNG to write.
    """
    from nnunet_sfma.trainers.checkpoint_reader import read_facts

    log = read_facts(checkpoint)["logging"]
    figure, (losses, dice, rate) = plt.subplots(1, 3, figsize=(13, 3.6))
    _curves(losses, "loss", {"training": log["train_losses"], "validation": log["val_losses"]})
    _curves(dice, "Dice", {"training": log["train_dice"], "validation (pseudo)": log["mean_fg_dice"]})
    _curves(rate, "learning rate", {"": log["lrs"]})
    dice.set_ylim(0, 1)
    rate.set_yscale("log")
    return _save(figure, target)


def _curves(axis: plt.Axes, title: str, curves: dict[str, list[float]]) -> None:
    for name, values in curves.items():
        axis.plot(range(1, len(values) + 1), values, label=name)
    axis.set_title(title)
    axis.set_xlabel("epoch")
    axis.grid(alpha=0.3)
    if len(curves) > 1:
        axis.legend(frameon=False)


def _save(figure: plt.Figure, target: Path) -> Path:
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(target, dpi=110)
    plt.close(figure)
    return target
