"""Whether a training in half precision stays finite and learns: random blobs in noise, which the images show faintly.

A network fails if a loss or, at the end, a weight is not finite, or if the last fifth of the losses is no lower than
the first. Without ``--precision`` it needs CUDA, where fp16 and bf16 are tried.
"""

import argparse
from math import isfinite
from statistics import mean

import torch
from networks import CLASSES, NETWORKS, build
from torch.nn import functional as F
from tqdm import trange
from work import Work, training_step

LEARNING_RATE = 1e-4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=["sfmanet", "danie-l"])
    parser.add_argument(
        "--precision", nargs="+", choices=["fp16", "bf16", "fp32"], help="default: fp16 and bf16, on CUDA"
    )
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--side", type=int, default=128)


def measure(args: argparse.Namespace, device: torch.device) -> dict:
    """The losses of each training, and which of them failed."""
    if args.precision is None and device.type != "cuda":
        raise SystemExit("Without CUDA give the precision, for instance --device cpu --precision bf16 --steps 10.")
    trainings = {}
    for name in args.networks:
        for precision in args.precision or ("fp16", "bf16"):
            work = Work("training", args.batch, args.side, precision)
            trainings[f"{name} {precision}"] = _train(name, work, args.steps, args.narrow, device)
    failed = [name for name, training in trainings.items() if not (training["finite"] and training["falls"])]
    return {"trainings": trainings, "failed": failed}


def _train(name: str, work: Work, steps: int, narrow: bool, device: torch.device) -> dict:
    torch.manual_seed(0)
    network = work.place(build(name, work.side, narrow), device)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    step = training_step(network, optimizer, lambda: _blobs(work, device), work)
    losses = [step().item() for _ in trange(steps, desc=f"{name} {work.precision}")]
    part = max(1, steps // 5)
    weights_are_finite = all(parameter.isfinite().all() for parameter in network.parameters())
    return {
        "finite": weights_are_finite and all(isfinite(loss) for loss in losses),
        "falls": mean(losses[-part:]) < mean(losses[:part]),
        "losses": [round(loss, 4) if isfinite(loss) else None for loss in losses],
    }


def _blobs(work: Work, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (B, 1, H, W) and the classes (B, 1, H, W) that they show."""
    coarse = torch.randn(work.batch, 1, 8, 8, device=device)
    field = F.interpolate(coarse, size=(work.side, work.side), mode="bilinear", align_corners=False)
    target = (field > 0.5).long() * (CLASSES - 1)
    return target + torch.randn_like(field), target
