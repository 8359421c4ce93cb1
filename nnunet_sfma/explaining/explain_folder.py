"""The folder of explaining figures that the report reads: numbered pictures and ``explain.json``."""

import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from nnunet_sfma.errors import UserError
from nnunet_sfma.files import replace_text
from nnunet_sfma.nnunet_folders import make_writable_folder

LIST_NAME = "explain.json"
TEXTS = ("file", "case", "title", "caption", "network")


@dataclass(frozen=True)
class Entry:
    """What the report says about a picture; the keys of ``explain.json`` beside the file's name.

    Attributes:
        slice: index in the image file.
    """

    case: str
    slice: int
    title: str
    caption: str
    network: str


def replace_case(folder: Path, case: str, pictures: Mapping[Entry, bytes]) -> list[Path]:
    """Put the pictures of a case in the place of the ones that the folder has of it; those of other cases stay.

    Args:
        folder: is created if it is not there.
        case: of all the entries.
        pictures: PNGs by what is said about them, in the report's order.

    Returns:
        The pictures' paths and that of ``explain.json``.

    Raises:
        UserError: if something cannot be read or written; the folder's figures stay as they were.
    """
    make_writable_folder(folder)
    figures = read_figures(folder)
    others = [figure for figure in figures if figure["case"] != case]
    taken = {figure["file"] for figure in figures}
    free = (name for number in itertools.count() if (name := f"{number}.png") not in taken)
    entries = [{"file": name, **asdict(entry)} for name, entry in zip(free, pictures, strict=False)]
    paths = [folder / entry["file"] for entry in entries]
    try:
        for path, content in zip(paths, pictures.values(), strict=True):
            _write(path, content)
        replace_text(folder / LIST_NAME, json.dumps({"figures": others + entries}, indent=1) + "\n")
    except BaseException:
        for path in paths:
            if path.is_file():
                path.unlink()
        raise
    for name in taken - {figure["file"] for figure in others}:
        (folder / name).unlink(missing_ok=True)
    return [*paths, folder / LIST_NAME]


def read_figures(folder: Path) -> list[dict]:
    """The entries of ``explain.json``; none where there is no such file.

    Raises:
        UserError: if it is damaged.
    """
    path = folder / LIST_NAME
    if not path.exists():
        return []
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
        if all(isinstance(figure[key], str) for figure in figures for key in TEXTS):
            return figures
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{path} is damaged: remove its folder and explain its cases again.")


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"Could not write {path} ({error.strerror}): make room or choose another place.") from error
    finally:
        partial.unlink(missing_ok=True)
