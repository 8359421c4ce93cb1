"""A folder of images to predict: which cases it holds, and whether a model can take them."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_identifiers_from_splitted_dataset_folder

from nnunet_sfma.errors import UserError
from nnunet_sfma.file_names import refuse_unreadable_names
from nnunet_sfma.sentences import first_few, last_line


def find_cases(folder: Path, ending: str, channels: Sequence[str], plans: dict) -> list[str]:
    """The identifiers of the cases, in the order in which nnU-Net predicts them.

    All are judged by the names of their files; only the first image is read.

    Args:
        folder: with a file ``CASE_0000.ext`` for each case, ``CASE_0001.ext`` for a second channel and so on.
        ending: of the model's data set.
        channels: names of the model's channels.
        plans: of the model; they name the reader.

    Raises:
        UserError: if there are no images, a name is not as nnU-Net wants it, the first image cannot be read, or a case
            has other channels than the model.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}: give the folder of images with -i.")
    found = _channels_by_case(folder, ending)
    if not found:
        raise UserError(f"There are no images (*_0000{ending}) in {folder}: check -i, or convert them to {ending}.")
    cases = [str(case) for case in get_identifiers_from_splitted_dataset_folder(str(folder), ending)]
    number = _files_per_case(folder / f"{cases[0]}_{min(found[cases[0]]):04d}{ending}", channels, plans)
    for case in cases:
        _refuse_other_channels(folder, case, found[case], number, channels)
    return cases


def files_by_case(folder: Path, ending: str) -> Mapping[str, list[Path]]:
    """The files of each case in a folder, in the order of their channels; names that are no case's are left out."""
    found = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if match := _file_name(ending).fullmatch(path.name):
            found[match[1]].append(path)
    return found


def _file_name(ending: str) -> re.Pattern:
    return re.compile(rf"([^.].*)_(\d{{4}}){re.escape(ending)}")


def _channels_by_case(folder: Path, ending: str) -> Mapping[str, set[int]]:
    pattern = _file_name(ending)
    names = [path.name for path in folder.iterdir() if path.name.endswith(ending)]
    refuse_unreadable_names(folder, names)
    strange = sorted(name for name in names if not pattern.fullmatch(name))
    if strange:
        raise UserError(
            f"{folder} holds files that are not named CASE_0000{ending} ({first_few(strange, 3)}): rename them or move "
            "them away."
        )
    no_files = sorted(name for name in names if not (folder / name).is_file())
    if no_files:
        raise UserError(
            f"{folder} holds what is no file or a link that leads nowhere ({first_few(no_files, 3)}): restore it, or "
            "move it away."
        )
    found = defaultdict(set)
    for match in map(pattern.fullmatch, names):
        found[match[1]].add(int(match[2]))
    return found


def _files_per_case(example: Path, channels: Sequence[str], plans: dict) -> int:
    """How many files hold the model's channels: one each, but a colour picture has three in one file."""
    try:
        image, _ = PlansManager(plans).image_reader_writer_class().read_images([str(example)])
    except Exception as error:  # each reader has its own
        raise UserError(f"{example} cannot be read ({last_line(error)}): restore it or move it away.") from None
    number, rest = divmod(len(channels), len(image))
    if rest:
        raise UserError(
            f"{example} has {len(image)} channels, the model takes {len(channels)} ({', '.join(channels)}): check -i "
            "and -d."
        )
    return number


def _refuse_other_channels(folder: Path, case: str, found: set[int], number: int, channels: Sequence[str]) -> None:
    missing, unknown = sorted(set(range(number)) - found), sorted(found - set(range(number)))
    takes = f"the model takes {number} ({', '.join(channels)})"
    if missing:
        raise UserError(f"{case} in {folder} lacks channel {missing[0]:04d}, {takes}: add the file, or move the case.")
    if unknown:
        raise UserError(f"{case} in {folder} has a channel {unknown[0]:04d}, {takes}: move the file, or check -d.")
