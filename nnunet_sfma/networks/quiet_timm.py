"""timm, imported without a warning that is not the user's: ``from nnunet_sfma.networks.quiet_timm import timm``.

timm decorates a class with ``torch.jit.interface``, which PyTorch 2.14 and later call deprecated in every command that
imports timm.
"""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", r"`torch\.jit\.", FutureWarning)
    import timm
    import timm.optim  # not there by itself

__all__ = ["timm"]
