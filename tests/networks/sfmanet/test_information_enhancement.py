"""IEM against equations 21-23."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnunet_sfma.networks.sfmanet.information_enhancement import InformationEnhancementModule
from tests.networks.sfmanet.test_axial_attention import reference as reference_attention


def convolved(conv: nn.Conv2d, x: torch.Tensor, kernel: int) -> torch.Tensor:
    return F.conv2d(x, conv.weight.double(), conv.bias.double(), padding=kernel // 2, groups=conv.groups)


def reference_fused(unit: InformationEnhancementModule, x: torch.Tensor, pointwise: bool) -> torch.Tensor:
    """F: three scales beside X, interleaved so that channel 4 c + s is channel c of source s, and fused."""
    x = x.double()
    sources = [x]
    for branch, kernel in zip(unit.branches, (3, 5, 7), strict=True):
        assert branch[0].weight.shape == (x.shape[1], 1, kernel, kernel)
        assert len(branch) == 1 + pointwise
        out = convolved(branch[0], x, kernel)
        sources.append(convolved(branch[1], out, 1) if pointwise else out)
    shuffled = [sources[s][:, c] for c in range(x.shape[1]) for s in range(4)]
    return convolved(unit.fuse, torch.stack(shuffled, dim=1), unit.fuse.kernel_size[0])


@pytest.mark.parametrize(
    "config",
    [{}, {"fuse_kernel": 3, "pointwise": False}, {"fuse_groups": 4}],
    ids=["default", "cost-matched reading", "grouped fusion"],
)
@pytest.mark.parametrize("size", [(5, 9), (9, 5)])
def test_equations(size, config):
    unit, x = InformationEnhancementModule(16, **config), 4 * torch.randn(2, 16, *size)
    fused = reference_fused(unit, x, config.get("pointwise", True))
    columns = reference_attention(unit.column_attention, fused, "column")
    expected = fused + reference_attention(unit.row_attention, columns, "row")
    torch.testing.assert_close(unit(x), expected.float(), rtol=1e-4, atol=1e-5)


def test_there_is_one_residual_only():
    # With silent values both attentions give 0: what is left is F once, however the attentions are wired.
    unit, x = InformationEnhancementModule(16), torch.randn(2, 16, 5, 9)
    for attention in (unit.column_attention, unit.row_attention):
        nn.init.zeros_(attention.value.weight)
        nn.init.zeros_(attention.value.bias)
    torch.testing.assert_close(unit(x), reference_fused(unit, x, True).float(), rtol=1e-4, atol=1e-5)


def test_rows_after_columns_reach_every_position():
    unit, x = InformationEnhancementModule(16), torch.randn(1, 16, 15, 19)
    other = x.clone()
    other[:, :, 0, 0] += 100
    assert ((unit(x) - unit(other)).abs().amax((0, 1)) > 0).all()


def test_even_fusing_kernels_are_refused():
    with pytest.raises(ValueError, match="odd"):
        InformationEnhancementModule(16, fuse_kernel=2)


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="3"):
        InformationEnhancementModule(16, fuse_groups=3)
