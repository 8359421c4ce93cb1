"""``--size``: pictures and the slices of volumes resized as a whole to one size, on the way into nnU-Net.

nnU-Net never resizes to a fixed size, and a patch is a crop of any image that is larger. So this is a conversion.
``dataset.json`` keeps how it was done: ``nnunet-sfma predict`` resizes an image of any size in the same way, and brings
the label map back to the size and the grid of the image.

Volumes stay volumes, and so normalisation, folds and scores stay those of volumes. They lose their millimetres: slices
of one size had different spacings, and nnU-Net would resample them to one. A voxel of 1 x 1 x 1 keeps it from that.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import SimpleITK as sitk  # noqa: N813

from dataset_conversion.cases import Content, Piece
from dataset_conversion.found import Found
from dataset_conversion.image_files import copy_grid, settled_grid
from nnunet_sfma.errors import UserError
from nnunet_sfma.picture_size import resize_linearly, resize_mask, resize_picture, slice_by_slice

LARGEST_SIZE = 8192
"""Above that of any picture of the releases."""
SPACING = (1.0, 1.0, 1.0)


def check_size(size: int) -> None:
    """Raise a UserError unless a size can be a side in pixels, or is 0 for the full resolution."""
    if not 0 <= size <= LARGEST_SIZE:
        raise UserError(f"--size {size}: give the side in pixels, up to {LARGEST_SIZE}, or 0 for the full resolution.")


def prepare_pictures(found: Found, size: int) -> None:
    """Mark pictures as resized, for dataset.json and provenance; whoever loads them calls :func:`resize_pictures`."""
    found.options |= {"size": size, "resampling": "image: box (area), mask: nearest"}
    found.resized = {"size": [size, size], "image": "box", "label": "nearest"}


def resize_pictures(content: Content, size: int) -> Content:
    """Return a picture, its label and its instance map at ``size`` x ``size`` pixels."""
    sides = (size, size)
    images = [
        sitk.GetImageFromArray(resize_picture(sitk.GetArrayFromImage(image), sides), isVector=True)
        for image in content.images
    ]
    return content._replace(
        images=images,
        label=_resized_mask(content.label, sides),
        extras={kind: _resized_mask(extra, sides) for kind, extra in content.extras.items()},
        original_size=content.images[0].GetSize(),
    )


def prepare_volumes(found: Found, size: int) -> None:
    """Have the slices of all volumes resized when they are written; 0 leaves them as they are.

    Raises:
        UserError: if the size is out of range.
    """
    check_size(size)
    if not size:
        return
    found.dataset_name += f"_{size}"
    found.options |= {"size": size, "resampling": "image: linear, label: nearest"}
    found.resized = {"size": [size, size], "image": "linear", "label": "nearest", "spacing": list(SPACING)}
    found.cut = partial(resize_volume, size=size)


def resize_volume(content: Content, size: int) -> Iterator[Piece]:
    """The volume with each slice along Z resized to ``size`` x ``size`` voxels, in one piece."""
    grid = copy_grid(sitk.Image([1, 1, 1], sitk.sitkUInt8), content.images[0])
    grid.SetSpacing(SPACING)
    grid, sides = settled_grid(grid), (size, size)
    images = [
        slice_by_slice(resize_linearly, sitk.GetArrayViewFromImage(image).astype(np.float32), sides)
        for image in content.images
    ]
    label = None
    if content.label is not None:
        label = copy_grid(
            sitk.GetImageFromArray(slice_by_slice(resize_mask, sitk.GetArrayViewFromImage(content.label), sides)), grid
        )
    yield Piece("", [copy_grid(sitk.GetImageFromArray(image), grid) for image in images], label)


def _resized_mask(mask: sitk.Image, size: tuple[int, int]) -> sitk.Image:
    return sitk.GetImageFromArray(resize_mask(sitk.GetArrayViewFromImage(mask), size))
