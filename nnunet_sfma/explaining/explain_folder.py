"""The folder of explaining figures that the report reads: numbered pictures and ``explain.json``."""

import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from nnunet_sfma.errors import UserError
from nnunet_sfma.files import replace_text, write_beside
from nnunet_sfma.json_files import ONE_LINE, read_json
from nnunet_sfma.nnunet_folders import make_writable_folder

LIST_NAME = "explain.json"
ADVICE = "remove its folder and explain its cases again"
# a list may come from elsewhere, and what it names is shown and removed
PICTURE = {"type": "string", "pattern": r"^[0-9]{1,9}\.png$"}
FIGURE = {
    "file": PICTURE,
    "case": ONE_LINE,
    "slice": {"type": "integer", "minimum": 0},
    "title": ONE_LINE,
    "caption": ONE_LINE,
    "network": ONE_LINE,
}
FIGURES = {
    "type": "object",
    "required": ["figures"],
    "properties": {
        "figures": {
            "type": "array",
            "items": {"type": "object", "required": list(FIGURE), "properties": FIGURE},
        }
    },
}


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
        UserError: if it is damaged, or names a file that ``nnunet-sfma explain`` does not write.
    """
    path = folder / LIST_NAME
    return read_json(path, FIGURES, advice=ADVICE)["figures"] if path.exists() else []


def _write(path: Path, content: bytes) -> None:
    new = None
    try:
        new = write_beside(path, content)
        os.replace(new, path)
    except OSError as error:
        raise UserError(f"Could not write {path} ({error.strerror}): make room or choose another place.") from error
    finally:
        if new:
            new.unlink(missing_ok=True)
