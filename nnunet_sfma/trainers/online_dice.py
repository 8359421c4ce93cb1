"""The Dice of a batch's own predictions, as nnU-Net counts it online in validation."""

import numpy as np
import torch
from nnunetv2.training.loss.dice import get_tp_fp_fn_tn
from nnunetv2.utilities.label_handling.label_handling import LabelManager


def hard_counts(output: torch.Tensor, target: torch.Tensor, label_manager: LabelManager) -> dict[str, np.ndarray]:
    """Count true positives, false positives and false negatives of a batch per foreground class or region.

    Args:
        output: logits (B, classes, H, W).
        target: labels (B, 1, H, W), or regions (B, R, H, W) with the ignore mask as last channel if there is one.
        label_manager: says which of the two it is and which label is to be ignored.

    Returns:
        ``tp_hard``, ``fp_hard`` and ``fn_hard``, each of shape (foreground classes or regions,).
    """
    if label_manager.has_regions:
        predicted = output > 0
        mask = ~target[:, -1:].bool() if label_manager.has_ignore_label else None
        target = target[:, :-1] if label_manager.has_ignore_label else target
        first = 0
    else:
        predicted = torch.zeros_like(output, dtype=torch.bool).scatter_(1, output.argmax(1, keepdim=True), True)
        mask = (target != label_manager.ignore_label) if label_manager.has_ignore_label else None
        target = target if mask is None else target.where(mask, 0)
        first = 1
    tp, fp, fn, _ = get_tp_fp_fn_tn(
        predicted.float(), target, axes=[0, 2, 3], mask=None if mask is None else mask.float()
    )
    counts = {"tp_hard": tp, "fp_hard": fp, "fn_hard": fn}
    return {name: count[first:].cpu().numpy() for name, count in counts.items()}


def dice_per_class(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray) -> np.ndarray:
    """2TP / (2TP + FP + FN) per class; NaN for a class that neither occurs nor is predicted."""
    with np.errstate(invalid="ignore"):
        return 2 * tp / (2 * tp + fp + fn)
