"""What torch can compute on here."""

from nnunet_sfma.errors import UserError

NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "ALLOC_FAILED",
    "CUDNN_STATUS_NOT_SUPPORTED",
    "unable to find an engine",
)
"""In messages of PyTorch's allocators, and of CUDA's libraries, which allocate by themselves: cuDNN calls a convolution
unsupported, or finds no way to compute it, if no workspace fits or the batch is too large for its index."""


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


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device's memory did not suffice, so that a smaller batch may pass.

    Args:
        error: which a computation ended with.
    """
    return any(message in str(error) for message in NO_MEMORY)
