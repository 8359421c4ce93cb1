"""MONAI's networks, imported when one is built: MONAI is optional, and its import takes seconds."""

from types import ModuleType


def monai_networks(wanted: str) -> ModuleType:
    """The module ``monai.networks.nets``.

    Args:
        wanted: name of the network that is built with it.

    Raises:
        ModuleNotFoundError: if MONAI cannot be imported; the sentence says what to install.
    """
    try:
        import monai.networks.nets as networks
    except ImportError as error:
        raise ModuleNotFoundError(f"{wanted} needs MONAI: pip install 'nnunet-sfma[peers]'") from error
    return networks
