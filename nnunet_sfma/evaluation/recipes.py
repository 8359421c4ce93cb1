"""Were rows of one ablation trained alike? What else differs than the network tells nothing of its parts."""

from collections.abc import Mapping
from typing import Any

from nnunet_sfma.ablations import Ablation
from nnunet_sfma.departures import load_departures
from nnunet_sfma.presets import ablations
from nnunet_sfma.sentences import shortened

OF_OURS = "nnunet_sfma.networks."
OF_THE_PATCH = "image_size"
OF_THE_CONFIGURATION = ("patch_size", "batch_size", "spacing", "normalization")
NO_RECIPE = ("seed", "activation_checkpointing", "accelerate")
"""Keys of ``training`` that decide which of equally good models comes out, or how soon."""


def differing_recipe(a: Mapping | None, b: Mapping | None) -> list[str]:
    """A clause for each entry in which two models' recipes differ, if they are ablations of one another.

    That are networks of one class whose arguments differ, and only in what rows of the paper's ablation change. Of
    others, and of models that nothing is known of, there is no clause. What a row has to change in the recipe for its
    network counts as part of the row.

    Args:
        a, b: ``model`` of two evaluations.
    """
    if a is None or b is None or not _is_trained_by_us(a) or not _is_trained_by_us(b):
        return []
    rows = _rows(a)
    if not rows or not _are_ablations(a, b, rows):
        return []
    of_rows = {key for model in (a, b) for row in rows if _has(model, row) for key in row.training}
    of_a, of_b = (_recipe(model) for model in (a, b))
    differing = [key for key in {**of_a, **of_b} if of_a.get(key) != of_b.get(key) and key not in of_rows]
    return [f"{shortened(key, 40)} ({_shown(of_a, key)} and {_shown(of_b, key)})" for key in differing]


def _is_trained_by_us(model: Mapping) -> bool:
    return bool(model["training"]) and isinstance(model.get("architecture", {}).get("arch_kwargs"), Mapping)


def _class(model: Mapping) -> str:
    return str(model["architecture"].get("network_class_name"))


def _rows(model: Mapping) -> list[Ablation]:
    network = _class(model).removeprefix(OF_OURS).partition(".")[0]
    return list(ablations().get(network, {}).values())


def _arguments(model: Mapping) -> dict[str, Any]:
    """Of the network, with those that the plans left out; those of one patch belong to the recipe."""
    defaults = load_departures().get(_class(model).rpartition(".")[2], {}).get("defaults", {})
    arguments = {key.removeprefix("architecture."): value for key, value in defaults.items()}
    return {**arguments, **model["architecture"]["arch_kwargs"], OF_THE_PATCH: None}


def _are_ablations(a: Mapping, b: Mapping, rows: list[Ablation]) -> bool:
    if _class(a) != _class(b):
        return False
    of_a, of_b = _arguments(a), _arguments(b)
    differing = {key for key in {**of_a, **of_b} if of_a.get(key) != of_b.get(key)}
    return bool(differing) and differing <= {key for row in rows for key in row.arch_kwargs}


def _has(model: Mapping, row: Ablation) -> bool:
    arguments = _arguments(model)
    return all(arguments.get(key) == value for key, value in row.arch_kwargs.items())


def _recipe(model: Mapping) -> dict[str, Any]:
    training = {key: value for key, value in model["training"].items() if key not in NO_RECIPE}
    return {**{key: model[key] for key in OF_THE_CONFIGURATION}, **training}


def _shown(recipe: Mapping, key: str) -> str:
    return shortened(str(recipe[key]), 40) if key in recipe else "nothing"
