"""DMAU against equations 15-20 and the remedies it needs."""

import pytest
import torch
from torch import nn

from nnunet_sfma.networks.sfmanet.dual_axis import DualAxisMultiScaleAttentionUnit

LENGTHS = (7, 11, 21)


def shifted(x: torch.Tensor, by: int, axis: int) -> torch.Tensor:
    """out[i] = x[i + by] along ``axis``, zero outside."""
    out = torch.zeros_like(x)
    size = x.shape[axis]
    if abs(by) < size:
        out.narrow(axis, max(0, -by), size - abs(by)).copy_(x.narrow(axis, max(0, by), size - abs(by)))
    return out


def reference_strip(conv: nn.Conv2d, x: torch.Tensor, length: int, axis: int) -> torch.Tensor:
    """One depthwise strip along ``axis`` (3: along the row), tap by tap."""
    assert conv.weight.shape[2:] == ((1, length) if axis == 3 else (length, 1))
    taps = conv.weight.double().reshape(-1, length)
    out = conv.bias.double().view(1, -1, 1, 1).expand_as(x).clone()
    for tap in range(length):
        out += taps[:, tap].view(1, -1, 1, 1) * shifted(x, tap - length // 2, axis)
    return out


def reference(unit: DualAxisMultiScaleAttentionUnit, x_in, x, out_s, out_c) -> torch.Tensor:
    fused = x.double()
    for strips, gated in ((unit.spatial, out_s), (unit.frequency, out_c)):
        for strip, length in zip(strips, LENGTHS, strict=True):
            horizontal = reference_strip(strip[0], gated.double(), length, axis=3)
            fused = fused + reference_strip(strip[1], horizontal, length, axis=2)
    mixed = torch.einsum("oi,bihw->bohw", unit.mix.weight[:, :, 0, 0].double(), fused)
    return (mixed + unit.mix.bias.double().view(1, -1, 1, 1)) * x_in.double()


@pytest.mark.parametrize("size", [(6, 25), (25, 6), (4, 3)], ids=["wide", "high", "smaller than every strip"])
def test_equations(size):
    unit, maps = DualAxisMultiScaleAttentionUnit(8), torch.randn(4, 2, 8, *size)
    torch.testing.assert_close(unit(*maps), reference(unit, *maps).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("branch", ["spatial", "frequency"])
@pytest.mark.parametrize("alive", range(3))
def test_each_strip_reads_the_map_of_its_branch(branch, alive):
    # Equation 16 as printed feeds Out_S to the longer strips of the frequency branch.
    unit = DualAxisMultiScaleAttentionUnit(8)
    for name in ("spatial", "frequency"):
        for i, strip in enumerate(getattr(unit, name)):
            if (name, i) != (branch, alive):
                nn.init.zeros_(strip[1].weight)
    x_in, x, out_s, out_c = torch.randn(4, 1, 8, 6, 9)
    out_s.requires_grad_()
    out_c.requires_grad_()
    (unit(x_in, x, out_s, out_c) * torch.randn(1, 8, 6, 9)).sum().backward()
    reads = {"spatial": out_s.grad.abs().max(), "frequency": out_c.grad.abs().max()}
    assert reads.pop(branch) > 1e-4
    assert reads.popitem()[1] == 0


@pytest.mark.parametrize("size", [(9, 30), (30, 9)])
def test_a_pixel_reaches_ten_positions_to_each_side_and_no_further(size):
    # A row strip and then a column strip fill a rectangle; padding that wraps around would reach the far side.
    unit = DualAxisMultiScaleAttentionUnit(8)
    maps = torch.randn(4, 1, 8, *size)
    other = maps.clone()
    other[2, :, :, 4, 4] += 1
    changed = (unit(*maps) - unit(*other)).abs().amax((0, 1)) > 0
    expected = torch.zeros(size, dtype=torch.bool)
    expected[:15, :15] = True
    assert torch.equal(changed, expected)


@pytest.mark.usefixtures("without_onednn")
def test_float16_is_clamped_where_the_product_has_no_room():
    unit = DualAxisMultiScaleAttentionUnit(8)
    x_in, x, out_s, out_c = 1000 * torch.randn(4, 1, 8, 6, 9)
    exact = unit(x_in, x, out_s, out_c)
    assert exact.abs().max() > 2 * 65504
    with torch.autocast("cpu", dtype=torch.float16):
        half = unit(x_in.half(), x.half(), out_s.half(), out_c.half())
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), exact.clamp(-65504, 65504), rtol=0.05, atol=2000.0)


@pytest.mark.usefixtures("without_onednn")
@pytest.mark.parametrize("dtype", [torch.bfloat16, None], ids=["bfloat16", "float32"])
def test_other_types_are_not_clamped(dtype):
    unit, maps = DualAxisMultiScaleAttentionUnit(8), 1000 * torch.randn(4, 1, 8, 6, 9)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        assert unit(*maps).abs().max() > 2 * 65504
