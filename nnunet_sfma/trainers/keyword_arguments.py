"""The keyword arguments that a recipe hands to its optimiser or schedule, checked before anything is trained."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from nnunet_sfma.presets import nearest
from nnunet_sfma.sentences import shortened

SET_ELSEWHERE = ("params", "lr", "weight_decay", "optimizer", "mode", "maximize")
"""Entries of the recipe of their own; and what would turn the training round."""


def check_keywords(block: str, kwargs: dict, name: str, function: Callable | None) -> None:
    """Refuse keyword arguments that an optimiser or schedule does not take, or with which it would not work.

    Args:
        block: the recipe's entry, for the message.
        kwargs: its value.
        name: of the optimiser or schedule.
        function: which takes them; None takes none.

    Raises:
        ValueError: if a name is unknown, or a value is not like the default or out of range.
    """
    parameters = inspect.signature(function).parameters if function else {}
    known = [key for key in parameters if key not in SET_ELSEWHERE]
    for key, value in kwargs.items():
        if key not in known:
            hint = nearest(key, known) if known else " (it takes none)"
            raise ValueError(f"training.{block} has '{shortened(key)}', which {name} does not take{hint}")
        if not _is_like(value, parameters[key].default):
            raise ValueError(
                f"training.{block}: {key} is like {parameters[key].default!r} and not negative, got "
                f"{shortened(repr(value))}"
            )
    if function is ReduceLROnPlateau:
        _try_schedule(block, kwargs)
    elif function:
        _try_optimizer(block, kwargs, function)


def _is_like(value: Any, default: Any) -> bool:
    if default is None:  # a choice that is PyTorch's own if nobody makes it
        return value is None or isinstance(value, bool)
    if isinstance(default, (bool, str)):
        return type(value) is type(default)
    if isinstance(default, tuple):
        return isinstance(value, list) and len(value) == len(default) and all(map(_is_like, value, default))
    return type(value) in (int, float) and 0 <= value < math.inf


def _try_optimizer(block: str, kwargs: dict, function: Callable) -> None:
    above = [key for key in ("momentum", "dampening", "eps") if kwargs.get(key, 0) > 1]
    if above:
        raise ValueError(f"training.{block}: {above[0]} lies between 0 and 1, got {kwargs[above[0]]!r}")
    try:
        function([torch.zeros(1, requires_grad=True)], lr=1.0, **kwargs)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"training.{block} does not work: {shortened(str(error))}") from error


def _try_schedule(block: str, kwargs: dict) -> None:
    factor = kwargs.get("factor", 0.1)
    if not 0 < factor < 1:
        raise ValueError(f"training.{block}: factor lies between 0 and 1, got {factor!r}")
    for key in ("patience", "cooldown"):
        if not isinstance(kwargs.get(key, 0), int):
            raise ValueError(f"training.{block}: {key} is a whole number of epochs, got {kwargs[key]!r}")
    try:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        ReduceLROnPlateau(optimizer, mode="max", **kwargs)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"training.{block} does not work: {shortened(str(error))}") from error
