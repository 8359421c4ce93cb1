"""Points nnU-Net to the folder that holds :mod:`nnunet_sfma_trainers`.

Python imports this module at every start through ``nnunet_sfma_discovery.pth``, so it imports nothing but ``os`` and
never raises. nnU-Net looks for trainers in the folders named by ``nnUNet_extTrainer``; what the user put there stays.
"""

import os

VARIABLE = "nnUNet_extTrainer"
FOLDER = os.path.dirname(os.path.abspath(__file__))


def announce() -> None:
    """Append this folder to ``nnUNet_extTrainer``, once; child processes inherit it."""
    folders = [folder for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]
    if FOLDER not in folders:
        os.environ[VARIABLE] = os.pathsep.join([*folders, FOLDER])


announce()
