"""Which networks a data file may name: those of the presets and baselines, and dynamic_network_architectures'.

Plans and evaluations come from other people, and whatever such a file names would be imported and called.
"""

import inspect
import math
import pkgutil
from functools import cache
from importlib import import_module
from typing import Any

import dynamic_network_architectures.architectures
import dynamic_network_architectures.building_blocks
from torch import nn

from nnunet_sfma.networks import peers
from nnunet_sfma.presets import load_preset, preset_names
from nnunet_sfma.sentences import shortened

MOVED = {
    # nnU-Net's name for it where it reads plans of an older release
    "dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet": (
        "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    )
}
LARGEST_NUMBER, LONGEST_TEXT, MOST_ENTRIES, DEEPEST = 2**16, 200, 100, 5


def check_architecture(architecture: dict) -> None:
    """Refuse an ``architecture`` block that names what is not listed or has arguments that its network does not take.

    Nothing that the block names is imported or called before it was found in the list.

    Raises:
        KeyError: if the block lacks one of its three entries.
        ValueError: if the network is not listed, or an argument is no number, text, true, false, null, listed class,
            or list or object of these.
        TypeError: if the arguments do not fit the network's signature.
    """
    name, arguments, classes = (
        architecture[key] for key in ("network_class_name", "arch_kwargs", "_kw_requires_import")
    )
    network = _network_class(name)
    if not isinstance(arguments, dict) or not isinstance(classes, list):
        raise ValueError("arch_kwargs is an object and _kw_requires_import a list")
    for key in classes:
        if not isinstance(key, str) or key not in arguments:
            raise ValueError(f"_kw_requires_import names {key!r}, which is no argument")
        if arguments[key] is not None and _part_class(arguments[key]) is None:
            raise ValueError(f"there is no {key} {_shown(arguments[key])}")
    for key, value in arguments.items():
        if not _is_plain(value):
            raise ValueError(f"{key} cannot be {_shown(value)}")
    inspect.signature(network).bind(input_channels=1, num_classes=1, **arguments)


def argument_defaults(name: str) -> dict[str, Any]:
    """Return what a network takes for the arguments that a block leaves out; nothing of one that is not listed."""
    try:
        parameters = inspect.signature(_network_class(name)).parameters.values()
    except ValueError:
        return {}
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def _network_class(name: Any) -> type[nn.Module]:
    if isinstance(name, str) and name in _listed_here():
        module, _, leaf = name.rpartition(".")
        return getattr(import_module(module), leaf)
    moved = MOVED.get(name, name) if isinstance(name, str) else name
    network = _class_within(dynamic_network_architectures.architectures, moved)
    if network is None:
        raise ValueError(
            f"{_shown(name)} is neither a network of this package nor one of dynamic_network_architectures, and no "
            "other is built"
        )
    return network


@cache
def _listed_here() -> frozenset[str]:
    blocks = [load_preset(name).architecture for name in preset_names()]
    baselines = [getattr(peers, name) for name in peers.__all__]
    return frozenset(
        [block["network_class_name"] for block in blocks if block is not None]
        + [f"{network.__module__}.{network.__qualname__}" for network in baselines]
    )


def _part_class(name: Any) -> type[nn.Module] | None:
    """A layer of PyTorch or a block of dynamic_network_architectures."""
    if isinstance(name, str) and name.startswith("torch.nn."):
        module, _, leaf = name.rpartition(".")
        part = getattr(nn, leaf, None)
        return part if _is_module_class(part) and module in ("torch.nn", part.__module__) else None
    return _class_within(dynamic_network_architectures.building_blocks, name)


def _class_within(package, name: Any) -> type[nn.Module] | None:
    """The network class that a module of a package defines by this name, None if there is none."""
    if not isinstance(name, str):
        return None
    module, _, leaf = name.rpartition(".")
    if module not in {f"{package.__name__}.{found.name}" for found in pkgutil.iter_modules(package.__path__)}:
        return None
    part = getattr(import_module(module), leaf, None)
    return part if _is_module_class(part) and part.__module__ == module else None


def _is_module_class(part: Any) -> bool:
    return inspect.isclass(part) and issubclass(part, nn.Module)


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a value is of JSON, and of a size that a network can have."""
    if isinstance(value, (list, dict)):
        entries = [*value, *value.values()] if isinstance(value, dict) else value
        return depth < DEEPEST and len(value) <= MOST_ENTRIES and all(_is_plain(entry, depth + 1) for entry in entries)
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT
    if isinstance(value, (int, float)):
        return math.isnan(value) or abs(value) <= LARGEST_NUMBER  # of NaN, networks say better what they take
    return value is None


def _shown(value: Any) -> str:
    return shortened(repr(value))
