"""What torch can compute on here."""

from nnunet_sfma.errors import UserError


def refuse_missing_device(kind: str, option: str = "-device") -> None:
    """Refuse a kind of device that torch does not find here.

    Args:
        kind: "cuda", "mps" or "cpu", which is always there.
        option: of the command line, with which it was chosen.

    Raises:
        UserError: if there is none of that kind.
    """
    import torch

    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if kind in there and not there[kind]():
        raise UserError(f"There is no {kind.upper()} device here that torch can use: give {option} cpu.")
