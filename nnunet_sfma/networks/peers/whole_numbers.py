"""The check that arguments of the library's networks share."""

from collections.abc import Sequence
from typing import Any


def check_whole_numbers(name: str, values: Sequence[Any], count: int | None = None) -> None:
    """Refuse anything but whole numbers from 1 on.

    Args:
        name: of the argument.
        values: what was given for it.
        count: how many there have to be; None stands for two or more.

    Raises:
        ValueError: with the rule and what was given.
    """
    numbers = list(values) if isinstance(values, Sequence) else []
    whole = all(isinstance(number, int) and not isinstance(number, bool) and number >= 1 for number in numbers)
    if not whole or (len(numbers) < 2 if count is None else len(numbers) != count):
        wanted = "two or more" if count is None else count
        raise ValueError(f"{name} is a list of {wanted} whole numbers from 1 on, got {values!r}")
