"""``--seeds``: the same plans once per seed, each with results of its own."""

import json
from collections.abc import Sequence
from dataclasses import replace

from nnunet_sfma import made_by
from nnunet_sfma.crossval.models import Model
from nnunet_sfma.errors import UserError
from nnunet_sfma.files import replace_text
from nnunet_sfma.nnunet_files import read_plans
from nnunet_sfma.trainers.changed_plans import say_the_same


def seeded(models: Sequence[Model], seeds: Sequence[int], write: bool = True) -> list[Model]:
    """The models once per seed, with plans ``<plans>-seed<N>`` that are written to nnUNet_preprocessed.

    A plan says everything, so the seed is an entry of its training block, ``training.seed``.

    Raises:
        UserError: if plans have no training block to hold a seed, or other plans of that name exist.
    """
    return [_with_seed(model, seed, write) for seed in dict.fromkeys(seeds) for model in models]


def _with_seed(model: Model, seed: int, write: bool) -> Model:
    plans = read_plans(model.preprocessed / f"{model.plans}.json")
    configuration = plans["configurations"][model.configuration]
    if "training" not in configuration:
        raise UserError(
            f"{model.plans} has no training block that could hold a seed: make plans with nnunet-sfma plan, or leave "
            "--seeds out."
        )
    name = f"{model.plans}-seed{seed}"
    configuration["training"]["seed"] = seed
    plans["plans_name"] = name
    if made_by.command_of(plans):
        plans[made_by.KEY] = [*plans[made_by.KEY], "--set", f"training.seed={seed}", "--name", name]
    path = model.preprocessed / f"{name}.json"
    if path.is_file() and not say_the_same(read_plans(path), plans):
        raise UserError(f"{path} holds other plans than {model.plans} with seed {seed}: remove or rename one of them.")
    if write and not path.is_file():
        replace_text(path, json.dumps(plans, indent=4))
    return replace(model, plans=name)
