"""Photographs and micrographs: jpg, bmp and png files as arrays and as images for nnU-Net."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from PIL import Image, UnidentifiedImageError

from nnunet_sfma.errors import UserError


def open_picture(path: Path) -> Image.Image:
    """Read a picture to its end, in the pixel order of the file (an orientation tag is not applied).

    Raises:
        UserError: if the file is missing, is no picture, or is truncated or damaged.
    """
    if not path.is_file():
        raise UserError(f"The file {path} does not exist; check that the download is complete.")
    try:
        picture = Image.open(path)
        picture.load()
    except UnidentifiedImageError:
        raise UserError(f"The picture {path} cannot be read (unknown format); replace it by an intact copy.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"The picture {path} cannot be read ({error}); replace it by an intact copy.") from error
    return picture


def check_same_size(image: Image.Image, image_path: Path, mask: Image.Image, mask_path: Path) -> None:
    """Raise a UserError unless a picture and its mask have one size."""
    if image.size != mask.size:
        raise UserError(
            f"The image {image_path} has {_size(image)} pixels but its mask {mask_path.name} has {_size(mask)}; "
            "replace the wrong one or exclude the case."
        )


def as_rgb(picture: Image.Image) -> Image.Image:
    """The picture in red, green and blue; itself, not a copy of its many pixels, if it is that already."""
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def to_rgb_image(picture: Image.Image) -> sitk.Image:
    """A picture as an image of three 8-bit components, red, green and blue."""
    return sitk.GetImageFromArray(np.asarray(as_rgb(picture)), isVector=True)


def _size(picture: Image.Image) -> str:
    return f"{picture.size[0]} x {picture.size[1]}"
