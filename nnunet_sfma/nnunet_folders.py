"""nnU-Net's three folders and its data set names, with errors in one sentence."""

import os
import re
import tempfile
from pathlib import Path

from nnunet_sfma.errors import UserError
from nnunet_sfma.sentences import shortened

ID = re.compile(r"[0-9]{1,9}")
FULL_NAME = re.compile(r"Dataset[0-9]{3}_[^/\\\x00-\x1f]{1,200}")
VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def nnunet_folder(variable: str) -> Path:
    """The folder that one of nnU-Net's variables names.

    Raises:
        UserError: if the variable is not set, or holds a ``~`` or ``$`` that the shell should have expanded.
    """
    value = os.environ.get(variable)
    if not value:
        raise UserError(f"{variable} is not set: export {variable}=/path/to/a/folder, as nnU-Net's documentation says.")
    if expanded(value) != value:
        raise UserError(f"{variable} is {value}, which no shell has expanded: export {variable}={expanded(value)}.")
    return Path(value)


def expanded(value: str) -> str:
    """A path with ``~`` and variables replaced, as a shell does outside its quotes."""
    return os.path.expandvars(os.path.expanduser(value))


def dataset_name(dataset: int | str) -> str:
    """The full name, ``DatasetXXX_Name``, of a data set given by id or name; nnU-Net's own look-up.

    Raises:
        UserError: if no folder of nnU-Net's holds it, or several data sets have the id.
    """
    from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets

    if not ID.fullmatch(str(dataset)):
        if not FULL_NAME.fullmatch(str(dataset)):
            raise UserError(
                f"'{shortened(str(dataset))}' is no data set: give its id or its full name, such as "
                "Dataset501_ISLES2022."
            )
        return str(dataset)
    found = find_candidate_datasets(int(dataset))
    if len(found) == 0:
        raise UserError(f"There is no data set with id {dataset} in nnU-Net's folders: convert it first, or check -d.")
    if len(found) > 1:
        raise UserError(
            f"The data set id {dataset} is used by {' and '.join(found)}: rename one of them, or give the name."
        )
    return str(found[0])


def dataset_id(name: str) -> str:
    """What commands take for a data set given by its full name: its id, or the name where another one has that id."""
    from nnunetv2.utilities.dataset_name_id_conversion import find_candidate_datasets

    identifier = int(name[7:10])
    return str(identifier) if len(find_candidate_datasets(identifier)) < 2 else name


def make_writable_folder(folder: Path) -> None:
    """Create a folder, if it is not there, and make sure that files can be written to it.

    Raises:
        UserError: if that is not so.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"Cannot write to {folder} ({error.strerror}): choose another place or make room.") from error
