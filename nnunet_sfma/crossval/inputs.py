"""What results were made of, by content: clocks differ between machines, and a copy keeps the age of its original."""

import contextlib
import filecmp
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_sfma.errors import UserError
from nnunet_sfma.files import replace_text, sha256
from nnunet_sfma.json_files import read_json

SCHEMA = {"type": "object", "required": ["sha256"], "properties": {"sha256": {"type": "string"}}}


@dataclass(frozen=True)
class Inputs:
    """The files that something is made of, and the note that says of which content it was made.

    Attributes:
        files: in an order that does not change; those that are not there do not count.
        note: the file to remember them by.
    """

    files: Sequence[Path]
    note: Path

    @property
    def are_noted(self) -> bool:
        """Whether there is a note; those of older releases have none."""
        return self._noted() is not None

    def have_changed(self) -> bool:
        """Whether the files are others than those noted."""
        return self._noted() != self._checksum()

    def keep(self) -> None:
        """Note the files as they are.

        Raises:
            UserError: if one cannot be read, or the note cannot be written.
        """
        replace_text(self.note, json.dumps({"sha256": self._checksum()}) + "\n")

    def _noted(self) -> str | None:
        with contextlib.suppress(UserError):  # not there, or damaged: the results are made again
            return read_json(self.note, SCHEMA)["sha256"]
        return None

    def _checksum(self) -> str:
        try:
            contents = [(path.name, sha256(path)) for path in self.files if path.is_file()]
        except OSError as error:
            raise UserError(f"{error.filename} cannot be read ({error.strerror}): make it readable.") from None
        return hashlib.sha256(json.dumps(contents).encode()).hexdigest()


def are_copied(sources: Sequence[Path], folder: Path) -> bool:
    """Whether a folder holds exact copies of all these files."""
    return all(
        (folder / path.name).is_file() and filecmp.cmp(path, folder / path.name, shallow=False) for path in sources
    )
