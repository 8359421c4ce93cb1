"""How JP and the fusions of Table 7 are put together; test_against_equations.py holds them against equations 10-11."""

import pytest
import torch

from nnunet_sfma.networks.danie.enhancing_self_attention import EnhancingSelfAttention
from nnunet_sfma.networks.danie.joint_preservation import JointPreservation
from tests.networks.probing import inputs

WIDTHS = (8, 12, 20)


def pyramid() -> list[torch.Tensor]:
    return [0.3 * inputs(2, width, 12 // 2**i, 20 // 2**i) for i, width in enumerate(WIDTHS)]


@pytest.mark.parametrize("name", ["joint_preservation", "es_add"])
def test_scale_reaches_es(name):
    jp = JointPreservation(WIDTHS, name, False, 0.25)
    units = [module for module in jp.modules() if isinstance(module, EnhancingSelfAttention)]
    assert [unit.scale for unit in units] == [0.25] * 3


def test_without_fuse_equation_10_is_literal():
    # Nothing but ES and EH has parameters before equation 11, and e is their sum.
    unit = JointPreservation(WIDTHS, "joint_preservation", False, None).fusions[0]
    assert {name.split(".")[0] for name in unit.state_dict()} == {"es", "eh"}


def test_fuse_is_one_convolution_a_stage():
    with_fuse, without = (JointPreservation(WIDTHS, "joint_preservation", fuse, None) for fuse in (True, False))
    extra = with_fuse.state_dict().keys() - without.state_dict().keys()
    convolutions = {name: with_fuse.state_dict()[name].shape for name in extra if name.endswith("0.weight")}
    assert convolutions == {f"fusions.{i}.fuse.0.weight": (width, width, 3, 3) for i, width in enumerate(WIDTHS)}
    assert not without.state_dict().keys() - with_fuse.state_dict().keys()


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
