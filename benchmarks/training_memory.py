"""Peak memory of a training step at SFMANet's batch size, with and without activation checkpointing, and the U-Net's.

Every network is measured beyond its own weights, see memory.py.
"""

import argparse

import torch
from attempt import Attempt
from networks import UNET
from tqdm import tqdm
from work import Work

MEASURED = (UNET, "sfmanet", "sfmanet-checkpointed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, default=16, help="images")
    parser.add_argument("--side", type=int, default=256, help="of the images, in pixels")


def measure(args: argparse.Namespace, device: torch.device) -> dict:
    """Bytes of each network, and times the U-Net's; null where a network failed, with the reason."""
    attempts = {name: Attempt(name, Work("training", args.batch, args.side), device, args.narrow) for name in MEASURED}
    peaks = {}
    for name, attempt in tqdm(attempts.items(), desc="Networks"):
        if device.type == "cuda":
            attempt()
        peaks[name] = attempt.peak_memory()
    unet = peaks[UNET]
    return {
        "batch": args.batch,
        "side": args.side,
        "peak_memory_bytes": peaks,
        "times_the_unet": {name: peak / unet if peak and unet else None for name, peak in peaks.items()},
        "failed": {name: attempt.reason for name, attempt in attempts.items() if attempt.reason},
    }
