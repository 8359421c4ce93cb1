"""Where the commands of this installation lie."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from nnunet_sfma.errors import UserError


def find_command(command: str) -> str:
    """The command of this very installation, wherever pip put it; else the one on the path.

    Raises:
        UserError: if there is none.
    """
    places = [sysconfig.get_path("scripts"), str(Path(sys.argv[0]).parent), os.environ.get("PATH", "")]
    found = shutil.which(command, path=os.pathsep.join(places))
    if found is None:
        raise UserError(
            f"The command {command} is not found in {places[0]}: is nnunetv2 installed in this environment?"
        )
    return found
