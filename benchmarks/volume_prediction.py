"""How long a volume takes to predict, by nnU-Net's predictor and by the batched one.

    python benchmarks/volume_prediction.py [--device cpu|cuda] [--runs 3] [--slices 73] [--narrow] [--json FILE]

A volume of smooth noise, 112 x 112 x 73 voxels of one channel as in ISLES 2022, is predicted in patches of 112 x 112 by
SFMANet and by SFMANet at a quarter of the width, with mirroring and without, from preprocessed data to logits. The
weights are random, and both predictors use the same network in turn. In the result, for each network and mirroring:

    seconds             median and spread of a volume, by predictor
    speedup             nnU-Net's median by the batched one's
    differing_voxels    of those that have another class
    largest_difference  of the logits
"""

import argparse
from collections.abc import Sequence
from statistics import median

import numpy as np
import torch
from machine import describe, interleaved, summary, synchronizer
from networks import CLASSES
from options import add_options, set_up, write_result
from scipy.ndimage import gaussian_filter
from volume import PREDICTORS, initialised

from nnunet_sfma.networks import SFMANet
from nnunet_sfma.presets import load_preset

SIDE = 112
NETWORKS = ("sfmanet", "sfmanet-narrow")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="timed rounds of each cell")
    parser.add_argument("--slices", type=int, default=73)
    add_options(parser)
    args = parser.parse_args(argv)
    device = set_up(args)
    volume = _smooth_noise((args.slices, SIDE, SIDE))
    cells = []
    for preset in ["sfmanet-narrow"] if args.narrow else NETWORKS:
        for mirroring in (True, False):
            cell = {"network": preset, "mirroring": mirroring, **_measure(preset, mirroring, volume, device, args.runs)}
            print(_as_line(cell), flush=True)
            cells.append(cell)
    write_result(args, {"machine": describe(device), "shape": list(volume.shape[1:]), "cells": cells})


def _measure(preset: str, mirroring: bool, volume: torch.Tensor, device: torch.device, runs: int) -> dict:
    network = SFMANet(1, CLASSES, **load_preset(preset).architecture["arch_kwargs"])
    logits = {}

    def predicting(name: str):
        predictor = initialised(name, network, SIDE, device, mirroring)
        return lambda: logits.update({name: predictor.predict_logits_from_preprocessed_data(volume)})

    seconds = interleaved({name: predicting(name) for name in PREDICTORS}, runs, synchronizer(device), label=preset)
    stock, batched = (logits[name].float() for name in PREDICTORS)
    return {
        "seconds": {name: summary(times) for name, times in seconds.items()},
        "speedup": median(seconds["nnunet"]) / median(seconds["batched"]),
        "differing_voxels": int((stock.argmax(0) != batched.argmax(0)).sum()),
        "largest_difference": float((stock - batched).abs().max()),
    }


def _smooth_noise(shape: Sequence[int]) -> torch.Tensor:
    """A volume of zero mean and unit variance, (1, Z, Y, X)."""
    noise = gaussian_filter(np.random.default_rng(0).standard_normal(shape), 3)
    return torch.from_numpy((noise - noise.mean()) / noise.std()).float()[None]


def _as_line(cell: dict) -> str:
    times = ", ".join(
        f"{name} {time['median']:.2f} s ({time['low']:.2f} to {time['high']:.2f})"
        for name, time in cell["seconds"].items()
    )
    mirroring = "with" if cell["mirroring"] else "without"
    return f"{cell['network']} {mirroring} mirroring: {times}, {cell['speedup']:.2f} times as fast"


if __name__ == "__main__":
    main()
