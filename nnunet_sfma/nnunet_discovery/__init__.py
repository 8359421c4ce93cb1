"""Points nnU-Net to the folder that holds :mod:`nnunet_sfma_trainers`.

Python imports this module at every start through ``nnunet_sfma_discovery.pth``, so it imports nothing but ``os`` and
never raises. nnU-Net looks for trainers in the folders named by ``nnUNet_extTrainer``; what the user put there stays.
"""

import os

VARIABLE = "nnUNet_extTrainer"
FOLDER = os.path.dirname(os.path.abspath(__file__))
GIVEN = os.environ.get(VARIABLE)
"""The variable as this process was given it, before :func:`announce`."""


def folders() -> list[str]:
    """The folders that nnU-Net searches after its own, in this order."""
    return [folder for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]


def announce() -> None:
    """Append this folder to ``nnUNet_extTrainer``, once; child processes inherit it."""
    if FOLDER not in folders():
        os.environ[VARIABLE] = os.pathsep.join([*folders(), FOLDER])


def refuse_misspelled(name: str, trainers: list[str]) -> None:
    """Stop with one sentence if ``name`` is nearly, but not, one of our trainers.

    Only where this folder is searched last: then no other folder can hold a trainer of that very name.

    Raises:
        UserError: naming the trainer that was probably meant.
    """
    import difflib

    from nnunet_sfma.errors import UserError

    # without what all trainers' names begin with, which would make strangers look alike
    ours = {trainer.lower().removeprefix("nnunettrainer"): trainer for trainer in trainers}
    nearest = difflib.get_close_matches(name.lower().removeprefix("nnunettrainer"), ours, n=1, cutoff=0.7)
    if nearest and folders()[-1:] == [FOLDER]:
        raise UserError(f"There is no trainer '{name}': did you mean -tr {ours[nearest[0]]}?")


announce()
