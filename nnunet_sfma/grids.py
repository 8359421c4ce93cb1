"""Where the voxels of an image lie, as nnU-Net's readers tell it, and whether two images lie on one grid."""

from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunet_sfma.errors import UserError
from nnunet_sfma.sentences import last_line

TOLERANCE = 1e-3


def grid_of(properties: dict) -> dict:
    """Return the places in the properties that a reader of nnU-Net's returns with an image."""
    if "sitk_stuff" in properties:  # readers that turn the axes keep the name of the old orientation there as well
        return {name: place for name, place in properties["sitk_stuff"].items() if not isinstance(place, str)}
    if "nibabel_stuff" in properties:
        return {"affine": properties["nibabel_stuff"]["original_affine"]}
    return {"spacing": properties["spacing"]}


def differences(grid: dict, other: dict) -> list[str]:
    """Return the names of the places in which a grid is not the other: sizes exactly, the rest up to a thousandth."""
    return [name for name in grid if not _same(name, grid[name], other.get(name))]


def read_grid(path: Path, reader: type[BaseReaderWriter]) -> dict:
    """Return the grid of an image file: from its header alone with nnU-Net's usual readers for volumes.

    A picture has no grid but its size, and nnU-Net does not preprocess one whose label has another.

    Raises:
        UserError: if the file cannot be read.
    """
    try:
        if reader in HEADERS:
            return HEADERS[reader](str(path))
        return grid_of(reader().read_seg(str(path))[1])
    except Exception as error:  # readers raise whatever their library does
        reason = last_line(error)
        raise UserError(f"{path} cannot be read ({reason}): make it again or leave the case out.") from None


def _header_by_itk(path: str) -> dict:
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    reader.ReadImageInformation()
    places = {"spacing": reader.GetSpacing(), "origin": reader.GetOrigin(), "direction": reader.GetDirection()}
    return {"size": reader.GetSize(), **places}


def _header_by_nibabel(path: str) -> dict:
    image = nibabel.load(path)
    return {"size": image.shape, "affine": image.affine}


def _same(name: str, a, b) -> bool:
    if name == "size":
        return a == b
    return b is not None and np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE)


HEADERS = {SimpleITKIO: _header_by_itk, NibabelIO: _header_by_nibabel, NaturalImage2DIO: lambda path: {}}
