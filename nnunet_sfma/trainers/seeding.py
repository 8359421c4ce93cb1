"""Random numbers that follow from a recipe's seed."""

import random

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter


def seed_everything(seed: int, *place: int) -> None:
    """Seed ``random``, NumPy and PyTorch on all devices.

    Args:
        seed: of the recipe.
        place: whole numbers that tell the places apart at which the same recipe seeds.
    """
    of_random, of_numpy, of_torch = _seeds(3, seed, *place)
    random.seed(of_random)
    np.random.seed(of_numpy)
    torch.manual_seed(of_torch)


def seed_workers(augmenter, seed: int, *place: int) -> None:
    """Start nnU-Net's augmentation processes anew, each with a seed of its own.

    nnU-Net starts them without one. Nothing happens where the training process augments by itself.
    """
    if isinstance(augmenter, NonDetMultiThreadedAugmenter):
        augmenter.seeds = _seeds(augmenter.num_processes, seed, *place)
        augmenter.restart()


def _seeds(count: int, seed: int, *place: int) -> list[int]:
    return np.random.SeedSequence(seed, spawn_key=place).generate_state(count).tolist()
