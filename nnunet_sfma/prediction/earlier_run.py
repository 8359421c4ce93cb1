"""What an earlier run left of cases that are predicted anew: if this run fails, nobody must take it for its result."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

from nnunet_sfma.errors import UserError


def remove_earlier(outputs: Sequence[str], ending: str, save_probabilities: bool) -> None:
    """Remove masks, and the probabilities that belong to them.

    Args:
        outputs: files of the predictions, without their ending.
        ending: of masks.
        save_probabilities: whether this run writes probabilities; if not, other programs' files of such names stay.

    Raises:
        UserError: if a file may not be removed.
    """
    for output in outputs:
        probabilities = Path(f"{output}.npz")
        endings = [ending]
        if save_probabilities or _holds_probabilities(probabilities):
            endings += [".npz", ".pkl"]
        for path in (Path(f"{output}{one}") for one in endings):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise UserError(f"{path} cannot be removed ({error.strerror}): make it writable.") from None


def _holds_probabilities(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist() == ["probabilities.npy"]
    except (OSError, zipfile.BadZipFile):  # not there, or none of nnU-Net's
        return False
