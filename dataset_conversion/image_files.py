"""Image files that are whole: ITK neither notices a truncated NIfTI file nor reports a short write.

What is read is scanned to its end, and what is written is read back and compared.
"""

import gzip
import math
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from nnunet_sfma.errors import UserError

GRID = ("Spacing", "Origin", "Direction")
MOST_COPIES = 100
"""Of 300 random oblique grids 294 settled within these; the others keep changing in the eighth digit."""

GRID_TOLERANCE = 1e-3
"""Spacing and origin (mm) and direction cosines that differ by no more count as equal.

NIfTI stores a rotation as three float32 numbers from which readers derive the fourth, so two programs that save one
grid may disagree by a few 1e-4.
"""


def is_utf8(path: Path) -> bool:
    """Return whether a path is UTF-8; of another one ITK would end the whole program."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def read_volume(path: Path) -> sitk.Image:
    """Read an image of one number for each voxel, as :func:`read_image` does.

    Raises:
        UserError: if it has several (colours, vectors), or as :func:`read_image`.
    """
    image = read_image(path)
    components = image.GetNumberOfComponentsPerPixel()
    if components != 1:
        raise UserError(
            f"The image {path} has {components} numbers for each voxel, such as colours, where one is expected; "
            "replace it by the released file or exclude the case."
        )
    return image


def read_image(path: Path) -> sitk.Image:
    """Read an image and make sure that the file holds all of it.

    ITK reads a truncated NIfTI file without complaint, leaves the missing voxels to chance, and turns NaN into 0.

    Raises:
        UserError: if the file is missing, is not an image, is truncated or damaged, has a name that is not UTF-8, or
            holds complex numbers, NaN or infinite voxels.
    """
    _check_name(path)
    if not path.is_file():
        raise UserError(f"The file {path} does not exist; check that the download is complete.")
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise UserError(f"The image {path} cannot be read ({_reason(error)}); replace it by an intact copy.") from error
    if image.GetPixelID() in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64):
        raise UserError(f"The image {path} holds complex numbers; save their magnitude or exclude the case.")
    problem = _nifti_problem(path, image)
    if problem:
        raise UserError(f"The image {path} {problem}; replace it by an intact copy or exclude the case.")
    return image


def write_image(image: sitk.Image, path: Path) -> None:
    """Write an image and read it back: on a full disk ITK's NIfTI writer leaves a short file and raises nothing.

    Raises:
        UserError: if the file's name is not UTF-8, or it does not hold the image, its grid included, afterwards.
    """
    _check_name(path)
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
        _sync(path)
        back = read_image(path)
    except RuntimeError as error:
        raise _failed_write(path, _reason(error)) from error
    except OSError as error:
        raise _failed_write(path, error.strerror) from error
    except UserError as error:
        raise _failed_write(path, "the file is incomplete") from error
    if not np.array_equal(sitk.GetArrayViewFromImage(back), sitk.GetArrayViewFromImage(image)):
        raise _failed_write(path, "the file read back differs")
    difference = grid_difference(back, image)
    # Pictures hold no grid.
    if difference and path.name.endswith(".nii.gz"):
        raise _failed_write(path, f"the file read back has another grid, {difference}")


def grid_difference(image: sitk.Image, reference: sitk.Image) -> str | None:
    """The first property in which two grids differ, with both values; None if they are one grid up to float noise."""
    if image.GetSize() != reference.GetSize():
        return f"size {image.GetSize()} against {reference.GetSize()}"
    for part in GRID:
        mine, theirs = getattr(image, f"Get{part}")(), getattr(reference, f"Get{part}")()
        if not np.allclose(mine, theirs, rtol=0, atol=GRID_TOLERANCE):
            return f"{part.lower()} {format_values(mine)} against {format_values(theirs)}"
    return None


def copy_grid(image: sitk.Image, reference: sitk.Image) -> sitk.Image:
    """Give ``image``, of any size, the spacing, origin and direction of ``reference``; returns it."""
    for part in GRID:
        getattr(image, f"Set{part}")(getattr(reference, f"Get{part}")())
    return image


def describe_grid(image: sitk.Image) -> dict[str, list[float]]:
    """Size, spacing, origin and direction for a JSON file."""
    return {part.lower(): list(getattr(image, f"Get{part}")()) for part in ("Size", *GRID)}


def settled_grid(image: sitk.Image) -> sitk.Image:
    """One voxel with the image's spacing, origin and direction as NIfTI can keep them for ever.

    NIfTI stores an oblique direction in float32 numbers, and ITK's next copy of it differs in the tenth digit, for a
    few copies. Settled before it is written, an image and a prediction made from it have the very same direction.
    """
    voxel = copy_grid(sitk.Image([1] * image.GetDimension(), sitk.sitkUInt8), image)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "grid.nii")
        for _ in range(MOST_COPIES):
            sitk.WriteImage(voxel, path)
            before, voxel = voxel, sitk.ReadImage(path)
            if all(getattr(before, f"Get{part}")() == getattr(voxel, f"Get{part}")() for part in GRID):
                break
    return voxel


def format_values(values: Sequence[float]) -> str:
    """Numbers in brackets, six digits each."""
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"


def _check_name(path: Path) -> None:
    if not is_utf8(path):
        raise UserError(f"The name {os.fsencode(path)!r} is not UTF-8: rename that file or folder.")


def _failed_write(path: Path, reason: str) -> UserError:
    free = shutil.disk_usage(path.parent).free / 2**20
    return UserError(
        f"Writing {path.name} failed with {free:.0f} MiB free on the disk ({reason}); free space or raise the quota "
        "and convert again; nothing is left of it."
    )


def _sync(path: Path) -> None:
    # Network file systems tell of an exceeded quota only when they flush.
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _nifti_problem(path: Path, image: sitk.Image) -> str | None:
    """What is wrong with the file although ITK read it; None for an intact file and for other formats."""
    if not path.name.lower().endswith((".nii", ".nii.gz")) or not image.HasMetaDataKey("bitpix"):
        return None
    header = {key: int(float(image.GetMetaData(key))) for key in ("dim[0]", "bitpix", "datatype", "vox_offset")}
    voxels = math.prod(int(image.GetMetaData(f"dim[{axis}]")) for axis in range(1, header["dim[0]"] + 1))
    expected = header["vox_offset"] + voxels * header["bitpix"] // 8
    try:
        found, not_finite = _scan_nifti(path, header["vox_offset"], expected, header["datatype"])
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return f"is damaged ({str(error).rstrip('.')})"
    if found < expected:
        return f"is truncated ({found} of {expected} bytes)"
    return f"has {not_finite} NaN or infinite voxels" if not_finite else None


def _scan_nifti(path: Path, offset: int, end: int, datatype: int) -> tuple[int, int]:
    """The file's uncompressed length in bytes, and how many of its voxels are not finite.

    Reads to the very end, because only there gzip tells whether the data are intact.
    """
    with path.open("rb") as file:
        opener = gzip.open if file.read(2) == b"\x1f\x8b" else open
    with opener(path, "rb") as file:
        head = file.read(offset)
        order = "<" if int.from_bytes(head[:4], "little") in (348, 540) else ">"
        dtype = {16: np.dtype(f"{order}f4"), 64: np.dtype(f"{order}f8")}.get(datatype)
        position, not_finite = len(head), 0
        for block in iter(partial(file.read, 2**20), b""):
            usable = min(len(block), max(end - position, 0))
            if dtype:
                values = np.frombuffer(block, dtype, count=usable // dtype.itemsize)
                not_finite += values.size - int(np.count_nonzero(np.isfinite(values)))
            position += len(block)
    return position, not_finite


def _reason(error: RuntimeError) -> str:
    """The last line of an ITK message, which tells the cause after pages of where it arose."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"^(sitk::|ITK )ERROR:\s*", "", lines[-1]).rstrip(".") if lines else "no reason given"
