"""What a plain intensity threshold reaches, as a yardstick for the demo."""

from pathlib import Path

import numpy as np

from nnunet_sfma.demo.volumes import read_volume


def threshold_dice(dataset: Path) -> float:
    """Mean Dice on the test cases of the threshold that is best on the training cases.

    Intensities are standardised within the brain (voxels that are not 0) of each case. Cases in which neither the
    label nor the threshold finds anything do not count, as in nnU-Net.

    Args:
        dataset: a data set in nnU-Net raw format with imagesTr, labelsTr, imagesTs and labelsTs, label 1 the lesion.
    """
    training = _standardised_cases(dataset, "Tr")
    candidates = np.linspace(0, 6, 61)
    best = max(candidates, key=lambda threshold: np.nanmean([dice(z > threshold, mask) for z, mask in training]))
    return float(np.nanmean([dice(z > best, mask) for z, mask in _standardised_cases(dataset, "Ts")]))


def dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """2|A and B| / (|A| + |B|) of two boolean arrays; NaN if both are empty."""
    total = prediction.sum() + truth.sum()
    return 2 * (prediction & truth).sum() / total if total else np.nan


def _standardised_cases(dataset: Path, part: str) -> list[tuple[np.ndarray, np.ndarray]]:
    cases = []
    for label in sorted((dataset / f"labels{part}").glob("*.nii.gz")):
        image = read_volume(dataset / f"images{part}" / label.name.replace(".nii.gz", "_0000.nii.gz"))
        brain = image[image != 0]
        z = np.where(image != 0, (image - brain.mean()) / brain.std(), -np.inf)
        cases.append((z, read_volume(label) == 1))
    return cases
