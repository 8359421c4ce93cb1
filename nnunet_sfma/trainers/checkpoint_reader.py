"""Reads checkpoints without running code that a file brings along, and with their checksums compared.

A checkpoint is a pickle, and a pickle may call whatever it names. What is trusted here is listed: PyTorch's own list,
NumPy's arrays and numbers, and devices, of which nnU-Net's checkpoints and ours consist.
"""

import pickle
import re
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from nnunet_sfma.errors import UserError
from nnunet_sfma.sentences import first_line

UNREADABLE = (
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
FOLDER = 0x10  # among an archive's attributes of an entry
WEIGHTS = ("network_weights", "optimizer_state")
DTYPES = [type(np.dtype(code)) for code in "?bhilqBHILQefdU"]
# what NumPy calls when it unpickles a number or an array; the module's name depends on its release
NUMBER, ARRAY = np.float64(0).__reduce__()[0], np.empty(0).__reduce__()[0]
NAMES = [f"numpy.{core}.multiarray.{{}}" for core in ("core", "_core")]
TRUSTED = [np.ndarray, np.dtype, *DTYPES, NUMBER, ARRAY, torch.device]
if torch.__version__ >= (2, 6):  # earlier ones know no other names than a function's own
    TRUSTED += [(function, name.format(function.__name__)) for function in (NUMBER, ARRAY) for name in NAMES]


class DamagedCheckpointError(Exception):
    """A file that is no whole checkpoint; the text says why."""


def read_checkpoint(path: Path) -> dict:
    """Return the content of a whole checkpoint; its tensors are read from the file only when they are used.

    PyTorch writes checksums and does not compare them: it would load weights with a flipped bit without a word.

    Raises:
        DamagedCheckpointError: if the file cannot be read or is no checkpoint of nnU-Net's.
        UserError: if it names something that is not trusted; nothing of it has run then.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = find_damaged(archive)
        if damaged is not None:
            raise DamagedCheckpointError(f"wrong checksum of its entry {damaged}")
        return _load(path)
    except UNREADABLE as error:
        raise DamagedCheckpointError(first_line(error)) from error


def find_damaged(archive: zipfile.ZipFile) -> str | None:
    """Return the first entry of a checkpoint that is not what was written; None if all are.

    PyTorch's own reader reads nothing of an entry that is marked as a folder, and takes what lies in memory for it.
    """
    folders = [entry.filename for entry in archive.infolist() if entry.external_attr & FOLDER or entry.is_dir()]
    return folders[0] if folders else archive.testzip()


def read_facts(path: Path) -> dict:
    """Return what a checkpoint tells of its training: all but weights and optimiser, whose checksums are not compared.

    Raises:
        DamagedCheckpointError, UserError: as :func:`read_checkpoint`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith("/data.pkl"):
                    archive.read(name)  # compares the checksum
        return {key: value for key, value in _load(path).items() if key not in WEIGHTS}
    except UNREADABLE as error:
        raise DamagedCheckpointError(first_line(error)) from error


def _load(path: Path) -> dict:
    try:
        with torch.serialization.safe_globals(TRUSTED):
            checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a pickle may be wrong in any way
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named is None:
            raise DamagedCheckpointError("its description cannot be read") from error
        raise UserError(
            f"{path} holds {named[1]}, which may run code and was not loaded: only tensors, NumPy arrays and plain "
            "values are trusted in a checkpoint; get it from its source again, or train it again."
        ) from None
    if not isinstance(checkpoint, dict) or "network_weights" not in checkpoint:
        raise DamagedCheckpointError("it holds no checkpoint")
    return checkpoint
