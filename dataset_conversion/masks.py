"""Masks of one structure as copies of a release hold them: 255, 1, 65535 or a colour stand for the structure.

With one value besides 0 there is no doubt which pixels are meant. Of several, soft edges mostly, those above half of
the scale are; what that leaves ambiguous is refused, as it would become an empty or a wrong label in silence.
"""

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from dataset_conversion.image_files import format_values
from nnunet_sfma.errors import UserError

GREY_NOISE = 16
"""JPEG's colours differ by so much where the picture was grey."""

FLOAT_NOISE = 1e-3
"""Whole numbers that were scaled and scaled back, such as 0.99994, differ by less."""


def mask_of_picture(picture: Image.Image, path: Path) -> tuple[np.ndarray, list[str]]:
    """Return the mask that a picture shows, and notes on what is unusual in it.

    Args:
        picture: black with one other value or colour, or white with soft edges on black; any mode, 8 or 16 bit.
        path: its file, for messages.

    Returns:
        0 and 1, uint8, of shape (rows, columns); notes for provenance.

    Raises:
        UserError: if it is ambiguous what the mask is.
    """
    grey = _grey(picture, path)
    values, counts = np.unique(grey, return_counts=True)
    if values[0] == 0 and len(values) == 2:
        mask, notes = grey > 0, [] if values[1] in (255, 65535) else [f"in the mask {values[1]} stands for the lesion"]
    else:
        mask, notes = grey > _half_of_scale(values, counts, path), []
    if values[0] == 0 and len(values) == 1 and np.any(np.ptp(_channels(picture), axis=(0, 1))):
        raise _ambiguous(path, "is black in all its colours but not blank")
    if "A" in picture.getbands():
        opaque = np.asarray(picture.getchannel("A")) > 127
        if not opaque.all() and not np.array_equal(opaque, mask):
            raise _ambiguous(path, "has a transparency that does not agree with its colours")
    notes += ["the mask covers the whole picture"] if mask.all() else []
    return mask.astype(np.uint8), notes


def mask_of_volume(label: sitk.Image) -> tuple[sitk.Image, list[str]]:
    """Return a volume with 1 where it had its only value above 0, and a note if that was not 1.

    Volumes of other values are returned as they are: whoever writes them compares the values with those declared.
    """
    label = with_whole_numbers(label)
    values = np.unique(sitk.GetArrayViewFromImage(label)).tolist()
    if len(values) != 2 or values[0] != 0 or values[1] == 1:
        return label, []
    return label > 0, [f"in the mask {values[1]:g} stands for the lesion"]


def with_whole_numbers(label: sitk.Image) -> sitk.Image:
    """Return a label in floats rounded if nothing but float noise is lost, and any other label as it is."""
    array = sitk.GetArrayViewFromImage(label)
    if not np.issubdtype(array.dtype, np.floating) or np.abs(array - np.round(array)).max() > FLOAT_NOISE:
        return label
    return sitk.Round(label)


def _grey(picture: Image.Image, path: Path) -> np.ndarray:
    """One number for each pixel, 0 for black."""
    if picture.mode.startswith("I"):  # 16 bit, which Pillow would cut off at 255
        return np.asarray(picture)
    if picture.mode in ("1", "L"):
        return np.asarray(picture.convert("L"))
    colours = np.asarray(picture.convert("RGB"))
    if np.ptp(colours, axis=2).max() <= GREY_NOISE:
        return colours.max(axis=2)
    if len(np.unique(colours[colours.any(axis=2)], axis=0)) > 1:
        raise _ambiguous(path, "has several colours")
    return colours.max(axis=2)


def _half_of_scale(values: np.ndarray, counts: np.ndarray, path: Path) -> int:
    """127 or 32767, whichever scale the values are of; refused if no value or not the most frequent is above it."""
    half = 127 if values[-1] <= 255 else 32767
    above = values > half
    if values[-1] > 0 and not above.any():
        raise _ambiguous(path, f"has {_listed(values)} and no value above {half}")
    faint = counts[1:][~above[1:]]
    if faint.size and faint.max() > counts[above].sum():
        raise _ambiguous(path, f"has {_listed(values)}, of which most are not above {half}")
    return half


def _listed(values: np.ndarray) -> str:
    few = values[:5].tolist()
    return f"the values {format_values(few)}" if len(values) <= len(few) else f"values from {values[0]} to {values[-1]}"


def _channels(picture: Image.Image) -> np.ndarray:
    """The numbers in the file, of shape (rows, columns, channels)."""
    return np.atleast_3d(np.asarray(picture).astype(np.int64))


def _ambiguous(path: Path, why: str) -> UserError:
    return UserError(
        f"The mask {path} {why}, so it is ambiguous what the lesion is: save it with 0 for the background and 255 for "
        "the lesion, or exclude the case."
    )
