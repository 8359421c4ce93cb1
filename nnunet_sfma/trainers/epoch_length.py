"""How many slices there are to pass over."""

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset


def count_slices(dataset: nnUNetBaseDataset, lesion_only: bool) -> int:
    """Number of 2D slices in a preprocessed dataset.

    Args:
        dataset: preprocessed cases of shape (C, Z, Y, X).
        lesion_only: count only the slices in which nnU-Net's sampler knows of foreground.
    """
    return sum(_slices_of_case(dataset, identifier, lesion_only) for identifier in dataset.identifiers)


def _slices_of_case(dataset: nnUNetBaseDataset, identifier: str, lesion_only: bool) -> int:
    data, _, _, properties = dataset.load_case(identifier)
    if not lesion_only:
        return data.shape[1]
    # each location is (channel, z, y, x); a tuple is a region, or "anything annotated" if it starts with -1
    locations = [
        np.asarray(found)
        for label, found in properties["class_locations"].items()
        if not (isinstance(label, tuple) and label[0] == -1)
    ]
    return len(np.unique(np.concatenate([found[:, 1] for found in locations if len(found)] or [np.empty(0)])))
