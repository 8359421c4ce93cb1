"""What SFMANet's units attend to: maps of one image, from the calls that were collected while the network ran.

Stages and skips count from 0, the finest. h and w are those of the stage.
"""

import re

import torch

from nnunet_sfma.explaining.collecting import Calls
from nnunet_sfma.networks.sfmanet import AxialAttention

COLLECTED = re.compile(
    r"skips\.\d+\.(sgu(\.(gate|attention))?|fgu(\.weigh)?|dmau|dmau\.mix)"
    r"|encoder\.iem\.\d+\.(column|row)_attention(\.(query|key))?"
)


def informative_gate(calls: Calls, skip: int) -> torch.Tensor:
    """SGU's W1 of equation 5, mean over the channels: (h, w) in 0 to 1."""
    (call,) = calls[f"skips.{skip}.sgu.gate"]
    return call.returned[0].mean(0)


def spatial_attention(calls: Calls, skip: int) -> torch.Tensor:
    """SGU's A of equation 6: (h, w) in 0 to 1."""
    (call,) = calls[f"skips.{skip}.sgu.attention"]
    return call.returned[0, 0]


def frequency_weights(calls: Calls, skip: int) -> torch.Tensor:
    """FGU's W of equation 13, (2, C): the channels of Y1 and of Y2.

    The softmax over all 2C makes their sum 1, or their mean 1 where the unit rescales.
    """
    (call,) = calls[f"skips.{skip}.fgu.weigh"]
    return call.returned.view(2, -1)


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
    y, x = pixel
    of_column, of_row = f"encoder.iem.{stage}.column_attention", f"encoder.iem.{stage}.row_attention"
    return _weights(column, calls, of_column, y).T * _weights(row, calls, of_row, x)[y]


def _weights(attention: AxialAttention, calls: Calls, name: str, query: int) -> torch.Tensor:
    """Softmax weights of each line's positions for one query in it: (lines, positions)."""
    lines = (2, 1, 0) if attention.axis == "column" else (1, 2, 0)
    (of_query,), (of_key,) = calls[f"{name}.query"], calls[f"{name}.key"]
    q, k = of_query.returned[0].permute(lines), of_key.returned[0].permute(lines)
    return (k @ q[:, query, :, None] * attention.scale).squeeze(-1).softmax(-1)
