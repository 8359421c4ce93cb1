"""What DANIE's units attend to: maps of one image, from the calls that were collected while the network ran.

Stages count from 0, the finest. h and w are those of the stage. Of a stage's attention blocks it is the last.
"""

import re
from typing import NamedTuple

import torch

from nnunet_sfma.explaining.collecting import Calls
from nnunet_sfma.networks.danie import EnhancingSelfAttention

COLLECTED = re.compile(
    r"hap\.stages\.\d+\.\d+\.(mlp|position|calibrate)|joint_preservation\.(fusions\.\d+\.(es|eh\.context)|blocks\.\d+)"
)


class Branches(NamedTuple):
    """What the two branches of a hierarchical attention block share the equation of."""

    maximum: torch.Tensor
    average: torch.Tensor


def channel_attention(calls: Calls, block: str) -> Branches:
    """HAP's weights of the channels in equation 2: (C,) in 0 to 1 for each branch.

    Args:
        calls: collected.
        block: the block's name, for instance "hap.stages.0.1".
    """
    return Branches(*(torch.sigmoid(call.returned[0, :, 0, 0]) for call in calls[f"{block}.mlp"]))


def position_attention(calls: Calls, block: str) -> Branches:
    """HAP's weights of the positions in equation 3: (h, w) in 0 to 1 for each branch."""
    return Branches(*(torch.sigmoid(call.returned[0, 0]) for call in calls[f"{block}.position"]))


def calibrated_attention(calls: Calls, block: str) -> torch.Tensor:
    """HAP's A_d, by which equation 5 weighs the positions: (h, w) in 0 to 1."""
    (call,) = calls[f"{block}.calibrate"]
    return torch.sigmoid(call.returned[0, 0])


def context_attention(calls: Calls, stage: int) -> torch.Tensor:
    """EH's a of equation 8: (h, w), its sum is 1."""
    (call,) = calls[f"joint_preservation.fusions.{stage}.eh.context"]
    scores = call.returned[0, 0].float()
    return scores.flatten().softmax(0).view(scores.shape)


def channel_matrix(unit: EnhancingSelfAttention, calls: Calls, stage: int) -> torch.Tensor:
    """ES's w of equation 6: (C, C), target channels in the rows, whose sums are 1, and sources in the columns."""
    (call,) = calls[f"joint_preservation.fusions.{stage}.es"]
    return unit.weights(call.received)[0]


def joint_feature(calls: Calls, stage: int) -> torch.Tensor:
    """JP's j of equation 11, mean absolute value over the channels: (h, w) from 0."""
    (call,) = calls[f"joint_preservation.blocks.{stage}"]
    return call.returned[0].float().abs().mean(0)
