"""Predictions that a process left cut off when it was killed; nnU-Net takes any file that is there for finished."""

import gzip
import math
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_sfma.errors import UserError
from nnunet_sfma.workers import in_parallel

BLOCK = 2**20
GZIP = b"\x1f\x8b"
GIPL_HEADER = 256
FILES_WORTH_A_PROCESS = 250  # reading as many takes about as long as starting it


def remove_cut_off(paths: Sequence[Path], reader: type[BaseReaderWriter], processes: int) -> list[Path]:
    """Remove the files that cannot be read to their end, and say so.

    Args:
        paths: of predictions.
        reader: nnU-Net's, for this kind of file.
        processes: at most.

    Returns:
        Those that were removed.

    Raises:
        UserError: if a file may not be read or removed.
    """
    number = min(processes, len(paths) // FILES_WORTH_A_PROCESS + 1)
    whole = in_parallel(is_whole, [(path, reader) for path in paths], number, "Looking for cut-off predictions")
    removed = [path for path, good in zip(paths, whole, strict=True) if not good]
    for path in removed:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{path} cannot be removed ({error.strerror}): make it writable.") from None
        print(f"Removed {path}: it was cut off and is made anew.", flush=True)
    return removed


def is_whole(path: Path, reader: type[BaseReaderWriter]) -> bool:
    """Whether a prediction can be read to its end.

    A compressed file tells by its checksum, and any by its size. ITK looks at neither: it reads a NIfTI that was cut
    off without a word.
    """
    if path.name.endswith(".gz"):
        return _gzip_is_whole(path) if _is_compressed(path) else _plain_nifti_is_whole(path)
    try:
        if path.suffix == ".nii":
            np.asarray(nibabel.load(path).dataobj)
        else:
            reader().read_seg(str(path))
    except Exception:  # each reader has its own
        return False
    return path.suffix != ".gipl" or path.stat().st_size >= GIPL_HEADER + _bytes_of_voxels(path)


def _bytes_of_voxels(path: Path) -> int:
    """How many bytes the header of a file announces."""
    header = sitk.ImageFileReader()
    header.SetFileName(str(path))
    header.ReadImageInformation()
    voxel = sitk.Image([1] * header.GetDimension(), header.GetPixelID())
    return math.prod(header.GetSize()) * voxel.GetSizeOfPixelComponent()


def _is_compressed(path: Path) -> bool:
    """By its first bytes: files called ``.nii.gz`` that are not are read by ITK, and so by nnU-Net."""
    try:
        with path.open("rb") as file:
            return file.read(len(GZIP)) == GZIP
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): make it readable.") from None


def _plain_nifti_is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            header = nibabel.Nifti1Header.from_fileobj(file)
    except Exception:  # no NIfTI
        return False
    voxels = math.prod(header.get_data_shape()) * header.get_data_dtype().itemsize
    return path.stat().st_size >= header.get_data_offset() + voxels


def _gzip_is_whole(path: Path) -> bool:
    try:
        with gzip.open(path) as file:
            size = sum(map(len, iter(partial(file.read, BLOCK), b"")))
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): make it readable.") from None
    try:
        voxels = nibabel.load(path).dataobj
    except Exception:  # no NIfTI
        return False
    return size >= voxels.offset + math.prod(voxels.shape) * voxels.dtype.itemsize
