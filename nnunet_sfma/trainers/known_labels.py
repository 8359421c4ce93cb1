"""Labels that dataset.json does not know, found in the preprocessed data before the first step.

A loss indexes its classes with them: on a CPU that is an index error, on a GPU a failed assertion that names nothing,
and with regions they become background without a word.
"""

from collections import ChainMap
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch.distributed as dist
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_sfma.errors import UserError
from nnunet_sfma.sentences import first_few

OUTSIDE = -1
"""What nnU-Net's preprocessing writes where all channels are zero; in training it is background."""


def refuse_unknown_labels(
    datasets: Iterable[nnUNetBaseDataset], labels: LabelManager, negative: Callable[[str], bool], mending: str
) -> None:
    """Refuse preprocessed cases with labels that the data set does not know.

    It takes less than a minute for a thousand large cases, for nnU-Net keeps labels compressed. On several GPUs each
    rank looks at a share: while one looked at everything, the others might wait for longer than NCCL lets them.

    Args:
        datasets: nnU-Net's, each with the identifiers of its cases.
        labels: nnU-Net's, of the data set.
        negative: whether the label file of a case holds negative values, which are asked for only where preprocessed
            labels do, for nnU-Net's mark for the outside is one.
        mending: how the cases are preprocessed again.

    Raises:
        UserError: with the labels that were found, those that are known, and the cases.
    """
    ignored = [labels.ignore_label] if labels.has_ignore_label else []
    known, unknown = {*map(int, labels.all_labels), *ignored}, {}
    holders = {case: dataset for dataset in datasets for case in dataset.identifiers}
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    for case, dataset in list(holders.items())[rank::ranks]:
        _, segmentation, _, properties = dataset.load_case(case)
        segmentation = segmentation[:]
        found = _unknown(segmentation, known)
        if segmentation.min() == OUTSIDE and (_marks_foreground(segmentation, properties) or negative(case)):
            found = [OUTSIDE, *found]
        if found:
            unknown[case] = found
    if ranks > 1:
        of_all_ranks: list[dict] = [{}] * ranks
        dist.all_gather_object(of_all_ranks, unknown)
        unknown = dict(sorted(ChainMap(*of_all_ranks).items()))
    if unknown:
        values = sorted({value for found in unknown.values() for value in found})
        raise UserError(
            f"Labels that dataset.json does not know ({first_few(list(map(str, values)))}; it knows "
            f"{first_few(list(map(str, sorted(known))), 30)}) are in {len(unknown)} of {len(holders)} cases "
            f"({first_few(list(unknown))}): correct the labels or dataset.json in nnUNet_raw, then {mending}."
        )


def _unknown(segmentation: np.ndarray, known: set[int]) -> list[int]:
    """The values that are not known; where all numbers up to the highest are, that takes no look at each voxel."""
    lowest, highest = int(segmentation.min()), int(segmentation.max())
    if lowest >= OUTSIDE and highest < len(known) and known == set(range(len(known))):
        return []
    return sorted({*np.unique(segmentation).tolist()} - known - {OUTSIDE})


def _marks_foreground(segmentation: np.ndarray, properties: dict) -> bool:
    """Whether voxels are marked as outside that preprocessing noted down as foreground."""
    locations = [
        np.asarray(places)
        for labels, places in properties["class_locations"].items()
        if len(places) and OUTSIDE not in np.atleast_1d(labels)
    ]
    return any((segmentation[tuple(places.T)] == OUTSIDE).any() for places in locations)


def holds_negative(label: Path, reader: type[BaseReaderWriter]) -> bool:
    """Return whether a label file holds negative values; a file of unsigned numbers, the usual one, is not read."""
    if not label.is_file():
        return False
    header = sitk.ImageFileReader()
    try:
        header.SetFileName(str(label))
        header.ReadImageInformation()
        if header.GetPixelID() in (sitk.sitkUInt8, sitk.sitkUInt16, sitk.sitkUInt32):
            return False
    except RuntimeError:  # ITK does not know the format; nnU-Net's reader does
        pass
    return bool(reader().read_seg(str(label))[0].min() < 0)
