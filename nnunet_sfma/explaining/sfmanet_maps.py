"""What SFMANet's units attend to: maps of one image, from the calls that were collected while the network ran.

Stages and skips count from 0, the finest. h and w are those of the stage.
"""

import re

import torch

from nnunet_sfma.explaining.collecting import Call, Calls
from nnunet_sfma.networks.sfmanet import AxialAttention, FrequencyGatingUnit, SpatialGatingUnit

COLLECTED = re.compile(
    r"skips\.\d+\.(sgu|fgu|dmau|dmau\.mix)"
    r"|encoder\.iem\.\d+\.(column|row)_attention"
)


def informative_gate(unit: SpatialGatingUnit, calls: Calls, skip: int) -> torch.Tensor:
    """SGU's W1 of equation 5, mean over the channels: (h, w) in 0 to 1."""
    (call,) = calls[f"skips.{skip}.sgu"]
    informative, _ = unit.gates(call.received)
    return informative[0].mean(0)


def spatial_attention(unit: SpatialGatingUnit, calls: Calls, skip: int) -> torch.Tensor:
    """SGU's A of equation 6: (h, w) in 0 to 1."""
    (call,) = calls[f"skips.{skip}.sgu"]
    return unit.attention_map(call.received)[0, 0]


def frequency_weights(unit: FrequencyGatingUnit, calls: Calls, skip: int) -> torch.Tensor:
    """FGU's W of equation 13, (2, C): the channels of Y1 and of Y2.

    The softmax over all 2C makes their sum 1, or their mean 1 where the unit rescales.
    """
    (call,) = calls[f"skips.{skip}.fgu"]
    return unit.channel_weights(call.received)[0]


def strip_attention(calls: Calls, skip: int) -> torch.Tensor:
    """DMAU's factor of X_in in equation 20, mean absolute value over the channels: (h, w) from 0."""
    (call,) = calls[f"skips.{skip}.dmau.mix"]
    return magnitude(call.returned)


def skip_magnitudes(calls: Calls, skip: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean absolute value over the channels of what DMAU gets from the encoder and of what it returns, (h, w) each."""
    (call,) = calls[f"skips.{skip}.dmau"]
    return magnitude(call.received), magnitude(call.returned)


def magnitude(feature: torch.Tensor) -> torch.Tensor:
    """Mean absolute value over the channels of a feature (1, C, h, w): (h, w)."""
    return feature[0].float().abs().mean(0)


def axial_attention(
    column: AxialAttention, row: AxialAttention, calls: Calls, stage: int, pixel: tuple[int, int]
) -> torch.Tensor:
    """How much each position adds to what IEM's two attentions return at one: (h, w), its sum is 1.

    The row attention reads the pixel's row, and each position of that row has read its own column before; so position
    (i, j) has the row's weight of column j times the weight of row i within column j.

    Args:
        column: the CAA of equation 23.
        row: its RAA.
        calls: collected.
        stage: of the encoder.
        pixel: row and column, at the stage's resolution.
    """
    (of_column,), (of_row,) = (calls[f"encoder.iem.{stage}.{axis}_attention"] for axis in ("column", "row"))
    y, x = pixel
    return _weights(column, of_column, y).T * _weights(row, of_row, x)[y]


def _weights(attention: AxialAttention, call: Call, query: int) -> torch.Tensor:
    """Softmax weights of each line's positions for one query in it: (lines, positions)."""
    lines = (2, 1, 0) if attention.axis == "column" else (1, 2, 0)
    q, k = (projection(call.received)[0].permute(lines) for projection in (attention.query, attention.key))
    return (k @ q[:, query, :, None] / q.shape[-1] ** 0.5).squeeze(-1).softmax(-1)
