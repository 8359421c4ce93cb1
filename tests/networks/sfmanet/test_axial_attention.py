"""Axial attention against softmax(q k^T / sqrt(d)) v, line by line."""

import math

import pytest
import torch
from torch import nn

from nnunet_sfma.networks.sfmanet.axial_attention import AxialAttention


def project(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    out = torch.einsum("oi,bihw->bohw", conv.weight[:, :, 0, 0].double(), x.double())
    return out if conv.bias is None else out + conv.bias.double().view(1, -1, 1, 1)


def reference(unit: AxialAttention, x: torch.Tensor, axis: str) -> torch.Tensor:
    q, k, v = (project(conv, x) for conv in (unit.query, unit.key, unit.value))
    out = torch.empty_like(v)
    lines = range(x.shape[3] if axis == "column" else x.shape[2])
    for b in range(x.shape[0]):
        for i in lines:
            line = (b, slice(None), slice(None), i) if axis == "column" else (b, slice(None), i, slice(None))
            e = torch.exp(q[line].T @ k[line] / math.sqrt(q.shape[1]))
            out[line] = v[line] @ (e / e.sum(1, keepdim=True)).T
    return out


@pytest.mark.parametrize("axis", ["column", "row"])
@pytest.mark.parametrize("channels, size", [(16, (5, 9)), (32, (9, 5)), (8, (1, 7))])
def test_equation(axis, channels, size):
    unit, x = AxialAttention(channels, axis), 4 * torch.randn(2, channels, *size)
    torch.testing.assert_close(unit(x), reference(unit, x, axis).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", ["column", "row"])
def test_logits_do_not_grow_with_the_width(axis):
    # Unit queries and keys: without 1/sqrt(d) the logits of 32 channels would have a deviation of 5.7.
    unit, x = AxialAttention(256, axis), torch.randn(1, 256, 24, 40)
    for projection in (unit.query, unit.key):
        nn.init.orthogonal_(projection.weight)
    nn.init.zeros_(unit.query.bias)
    nn.init.zeros_(unit.value.weight)
    with torch.no_grad():
        unit.value.weight[0, 0] = 1.0
    out = unit(x)[0, 0] - unit.value.bias[0]
    assert 0.9 < unit.query(x).std() < 1.1 and 0.9 < unit.key(x).std() < 1.1
    # The average of n independent values under logits of deviation 1 varies by about sqrt(e / n), not by 1.
    n = 24 if axis == "column" else 40
    assert out.std() < 1.3 * math.sqrt(math.e / n)


@pytest.mark.parametrize("axis", ["column", "row"])
def test_a_pixel_reaches_its_own_line_and_no_other(axis):
    unit, x = AxialAttention(16, axis), torch.randn(1, 16, 5, 9)
    other = x.clone()
    other[:, :, 3, 6] += 1
    changed = (unit(x) - unit(other)).abs().amax((0, 1)) > 1e-7
    expected = torch.zeros(5, 9, dtype=torch.bool)
    if axis == "column":
        expected[:, 6] = True
    else:
        expected[3] = True
    assert torch.equal(changed, expected)


@pytest.mark.parametrize("axis, varying", [("column", 3), ("row", 2)])
def test_a_map_constant_along_the_line_only_passes_the_value(axis, varying):
    # Equal values have themselves as every weighted average; mixed-up axes would blur the map.
    unit = AxialAttention(16, axis)
    x = torch.randn(1, 16, 1, 9).expand(1, 16, 5, 9) if varying == 3 else torch.randn(1, 16, 5, 1).expand(1, 16, 5, 9)
    torch.testing.assert_close(unit(x), unit.value(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis, varying", [("column", 2), ("row", 3)])
def test_a_map_varying_along_the_line_only_is_averaged_alike_in_all_lines(axis, varying):
    unit = AxialAttention(16, axis)
    shape = [1, 16, 1, 1]
    shape[varying] = (5, 9)[varying - 2]
    x = 3 * torch.randn(shape).expand(1, 16, 5, 9)
    out = unit(x)
    across = 5 - varying
    torch.testing.assert_close(out, out.narrow(across, 0, 1).expand_as(out), rtol=1e-4, atol=1e-5)
    assert (out - unit.value(x)).abs().max() > 0.1


def test_width_of_no_whole_query_is_refused():
    with pytest.raises(ValueError, match="12"):
        AxialAttention(12, "column")
