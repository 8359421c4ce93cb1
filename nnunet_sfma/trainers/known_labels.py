"""Labels that dataset.json does not know, found in the preprocessed data before the first step.

A loss indexes its classes with them: on a CPU that is an index error, on a GPU a failed assertion that names nothing,
and with regions they become background without a word.
"""

from collections.abc import Iterable

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_sfma.errors import UserError
from nnunet_sfma.sentences import first_few

OUTSIDE = -1
"""What nnU-Net's preprocessing writes where all channels are zero; in training it is background."""


def refuse_unknown_labels(datasets: Iterable[nnUNetBaseDataset], labels: LabelManager, mending: str) -> None:
    """Refuse preprocessed cases with labels that the data set does not know.

    It takes a few seconds for a thousand large cases, for nnU-Net keeps labels compressed.

    Args:
        datasets: nnU-Net's, each with the identifiers of its cases.
        labels: nnU-Net's, of the data set.
        mending: how the cases are preprocessed again.

    Raises:
        UserError: with the labels that were found, those that are known, and the cases.
    """
    ignored = [labels.ignore_label] if labels.has_ignore_label else []
    known = {*map(int, labels.all_labels), *ignored}
    unknown = {
        case: found
        for dataset in datasets
        for case in dataset.identifiers
        if (found := _unknown(dataset.load_case(case)[1][:], known))
    }
    if unknown:
        values = sorted({value for found in unknown.values() for value in found})
        raise UserError(
            f"{len(unknown)} of the fold's cases hold the labels {first_few(list(map(str, values)))}, and dataset.json "
            f"knows {first_few(list(map(str, sorted(known))), 30)} ({first_few(list(unknown))}): correct the labels or "
            f"dataset.json in nnUNet_raw, then {mending}."
        )


def _unknown(segmentation: np.ndarray, known: set[int]) -> list[int]:
    """The values that are not known; where all numbers up to the highest are, that takes no look at each voxel."""
    lowest, highest = int(segmentation.min()), int(segmentation.max())
    if lowest >= OUTSIDE and highest < len(known) and known == set(range(len(known))):
        return []
    return sorted({*np.unique(segmentation).tolist()} - known - {OUTSIDE})
