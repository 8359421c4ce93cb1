"""The patch of one slice that the network gets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch.nn import functional as F

from nnunet_sfma.errors import UserError
from nnunet_sfma.explaining.case import Volume
from nnunet_sfma.explaining.target_class import TargetClass
from nnunet_sfma.explaining.trained_model import network_of


@dataclass(frozen=True)
class Patch:
    """What the network gets of a slice.

    Attributes:
        image: (1, channels, H, W), padded with zeros as nnU-Net and the network pad.
        label: (H, W), or None; padding is 0.
        inside: rows and columns of (H, W) that hold the image; the rest is padding.
    """

    image: torch.Tensor
    label: np.ndarray | None
    inside: tuple[slice, slice]


def choose_slice(
    volume: Volume, target: TargetClass, index: int | None, predictor: nnUNetPredictor
) -> tuple[int, np.ndarray | None]:
    """The slice of the volume to look at, counted from the volume's first, and where it has the class.

    Args:
        volume: the case.
        target: the class.
        index: a slice of the image file; None takes the one with the largest labelled area of the class, or, where
            nothing of it is labelled, the largest that nnU-Net predicts.
        predictor: predicts the whole volume for that.

    Returns:
        The slice, and the pixels (H, W) that are labelled or, where nothing is, predicted; None if neither is known.

    Raises:
        UserError: if there is no such slice, or nothing to choose by.
    """
    first, count = volume.first_slice, volume.image.shape[1]
    masks = None if volume.label is None else target.mask(volume.label)
    if index is not None:
        if not first <= index < first + count:
            raise UserError(
                f"Slice {index} is out of range: the image holds something in slices {first} to {first + count - 1}."
            )
        return index - first, None if masks is None else masks[index - first]
    if masks is None or not masks.any():
        logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(volume.image))
        masks = target.mask(segment(logits, predictor))
    if not masks.any():
        raise UserError(f"The case has no '{target.name}', neither labelled nor predicted: give a slice with -s.")
    largest = int(np.argmax(masks.sum((1, 2))))
    return largest, masks[largest]


def segment(logits: torch.Tensor, predictor: nnUNetPredictor) -> np.ndarray:
    """The label map of logits (classes, ...) by nnU-Net's rule, without the axis of the classes."""
    return np.asarray(predictor.label_manager.convert_logits_to_segmentation(logits.float().cpu()))


def cut_patch(volume: Volume, index: int, mask: np.ndarray | None, predictor: nnUNetPredictor) -> Patch:
    """Cut a patch of the plans' size out of a slice, around the pixels of a mask, or out of its middle.

    A slice smaller than the patch is padded with zeros, as in nnU-Net's prediction, and then as the network pads.
    """
    image, label = volume.image[:, index], None if volume.label is None else volume.label[index]
    patch_size = predictor.configuration_manager.patch_size
    window = _window(image.shape[1:], patch_size, mask)
    padded, slicer = pad_nd_image(torch.from_numpy(image[(slice(None), *window)]), patch_size, return_slicer=True)
    height, width = _padded_size(network_of(predictor), padded.shape[1:])
    padded = F.pad(padded, (0, width - padded.shape[2], 0, height - padded.shape[1]))
    inside = slicer[1], slicer[2]
    if label is not None:
        whole = np.zeros((height, width), label.dtype)
        whole[inside] = label[window]
        label = whole
    return Patch(padded[None].to(predictor.device), label, inside)


def _window(size: Sequence[int], patch_size: Sequence[int], mask: np.ndarray | None) -> tuple[slice, slice]:
    """As much of a slice as the patch holds, with the mask's centre of mass in the middle where there is room."""
    centre = np.argwhere(mask).mean(0) + 0.5 if mask is not None and mask.any() else np.array(size) / 2
    starts = [
        int(np.clip(round(middle - side / 2), 0, max(whole - side, 0)))
        for middle, side, whole in zip(centre, patch_size, size, strict=True)
    ]
    rows, columns = (slice(start, start + side) for start, side in zip(starts, patch_size, strict=True))
    return rows, columns


def _padded_size(network: torch.nn.Module, size: Sequence[int]) -> Sequence[int]:
    return network.padded_size(size) if hasattr(network, "padded_size") else size
