"""JP and the fusions of Table 7 against equations 10-11 and the remedies they need."""

import pytest
import torch
from torch import nn

from nnunet_sfma.networks.danie.enhancing_self_attention import EnhancingSelfAttention
from nnunet_sfma.networks.danie.joint_preservation import FUSIONS, JointPreservation
from tests.networks.danie.reference import bilinear, conv_block, conv_norm_gelu, inputs, randomised
from tests.networks.danie.test_enhancing_hierarchical_attention import reference as eh
from tests.networks.danie.test_enhancing_self_attention import reference as es

WIDTHS = (8, 12, 20)


def pyramid() -> list[torch.Tensor]:
    return [0.3 * inputs(2, width, 12 // 2**i, 20 // 2**i) for i, width in enumerate(WIDTHS)]


def reference_fusion(unit: nn.Module, name: str, s: torch.Tensor, h: torch.Tensor, scale: float) -> torch.Tensor:
    """e of one stage, without Fuse."""
    if name == "add":
        return s + h
    if name == "concat_residual":
        return conv_norm_gelu(unit.reduce, torch.cat([s, h], dim=1)) + s + h
    return {
        "joint_preservation": lambda: es(s, unit.es.gain, scale) + eh(unit.eh, h),
        "es_add": lambda: es(s, unit.es.gain, scale) + h,
        "eh_add": lambda: s + eh(unit.eh, h),
    }[name]()


def reference_maps(jp: JointPreservation, fused: list[torch.Tensor]) -> list[torch.Tensor]:
    """Equation 11, from the deepest stage up."""
    maps = [conv_block(jp.blocks[2], fused[2])]
    for i in (1, 0):
        raised = bilinear(conv_norm_gelu(jp.up[i], maps[0]), fused[i].shape[2:])
        maps.insert(0, conv_block(jp.blocks[i], torch.cat([fused[i], raised], dim=1)))
    return maps


def check(jp: JointPreservation, fused: list[torch.Tensor], maps: list[torch.Tensor]) -> None:
    for found, expected in zip(maps, reference_maps(jp, fused), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("fuse_conv", [True, False], ids=["with Fuse", "literal"])
@pytest.mark.parametrize("name", FUSIONS)
def test_equations(name, fuse_conv, training):
    jp = randomised(JointPreservation(WIDTHS, name, fuse_conv, None)).train(training)
    s, h = pyramid(), pyramid()
    fused = [reference_fusion(unit, name, *pair, 1.0) for unit, *pair in zip(jp.fusions, s, h, strict=True)]
    if fuse_conv and name in ("joint_preservation", "es_add", "eh_add"):
        fused = [conv_norm_gelu(unit.fuse, e) for unit, e in zip(jp.fusions, fused, strict=True)]
    check(jp, fused, jp(s, h))


@pytest.mark.parametrize("name", ["joint_preservation", "es_add"])
def test_scale_reaches_es(name):
    jp = randomised(JointPreservation(WIDTHS, name, False, 0.25)).eval()
    s, h = pyramid(), pyramid()
    fused = [reference_fusion(unit, name, *pair, 0.25) for unit, *pair in zip(jp.fusions, s, h, strict=True)]
    check(jp, fused, jp(s, h))
    units = [module for module in jp.modules() if isinstance(module, EnhancingSelfAttention)]
    assert [unit.scale for unit in units] == [0.25] * 3


def test_without_fuse_equation_10_is_literal():
    # Nothing but ES and EH has parameters before equation 11, and e is their sum.
    unit = randomised(JointPreservation(WIDTHS, "joint_preservation", False, None)).fusions[0]
    assert {name.split(".")[0] for name in unit.state_dict()} == {"es", "eh"}
    s, h = pyramid()[0], pyramid()[0]
    torch.testing.assert_close(unit(s, h), es(s, unit.es.gain) + eh(unit.eh, h))


def test_fuse_is_one_convolution_a_stage():
    with_fuse, without = (JointPreservation(WIDTHS, "joint_preservation", fuse, None) for fuse in (True, False))
    extra = with_fuse.state_dict().keys() - without.state_dict().keys()
    convolutions = {name: with_fuse.state_dict()[name].shape for name in extra if name.endswith("0.weight")}
    assert convolutions == {f"fusions.{i}.fuse.0.weight": (width, width, 3, 3) for i, width in enumerate(WIDTHS)}
    assert not without.state_dict().keys() - with_fuse.state_dict().keys()


def test_a_single_stream_is_passed_on():
    jp, s = randomised(JointPreservation(WIDTHS, "add", True, None)).eval(), pyramid()
    check(jp, s, jp(s))


def test_up_convolves_at_the_coarse_resolution():
    jp, seen = JointPreservation(WIDTHS, "add", True, None).double(), []
    for up in jp.up:
        up.register_forward_hook(lambda _, given, out: seen.append((given[0].shape[1:], out.shape[1:])))
    jp(pyramid())
    assert seen == [((20, 3, 5), (12, 3, 5)), ((12, 6, 10), (8, 6, 10))]


def test_depth_reaches_every_finer_map_and_no_deeper_one():
    jp, e = JointPreservation(WIDTHS, "add", True, None).double().eval(), pyramid()
    before = jp(e)
    for changed in range(3):
        after = jp([feature + (i == changed) for i, feature in enumerate(e)])
        moved = [not torch.equal(a, b) for a, b in zip(after, before, strict=True)]
        assert moved == [i <= changed for i in range(3)]


def test_unknown_fusion_is_refused():
    with pytest.raises(ValueError, match="fusion must be one of joint_preservation, .*, got 'sum'"):
        JointPreservation(WIDTHS, "sum", True, None)
