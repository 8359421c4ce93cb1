"""attend: the same function as PyTorch's, on tensors that a fused kernel of a CUDA card takes.

Which kernel PyTorch takes is asked of PyTorch's own CUDA build, with a stub of CUDA's runtime that claims cards; where
no such build, compiler or header is at hand, the rules of the kernels are tested alone.
"""

import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from nnunet_sfma.networks.accelerate.fused_attention import attend
from tests.cuda_path.stub import run_on_cards

HERE = Path(__file__).parent
WIDTHS = [8, 16, 24, 32, 64, 128, 256, 512]
FUSED = ("flash", "efficient")
# The newest first: PyTorch asks the first card alone, once, whether cuDNN's attention comes before the others.
CARDS = HOPPER, BLACKWELL, ADA, TURING = (9, 0), (10, 0), (8, 9), (7, 5)


def operands(channels: int, dtype: torch.dtype = torch.float32, **options) -> list[torch.Tensor]:
    widths = (channels // 8, channels // 8, channels)
    return [torch.randn(2, 3, 11, width, dtype=dtype, requires_grad=True, **options) for width in widths]


@pytest.mark.parametrize("scale", [None, 1.0])
@pytest.mark.parametrize("channels", WIDTHS)
def test_padding_changes_nothing(channels, scale):
    q, k, v = operands(channels, torch.float64)
    out = attend(q, k, v, scale)
    logits = q @ k.mT * ((channels // 8) ** -0.5 if scale is None else scale)
    expected = logits.softmax(3) @ v
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    grad = torch.randn_like(out)
    for mine, true in zip(*(torch.autograd.grad(o, (q, k, v), grad) for o in (out, expected)), strict=True):
        torch.testing.assert_close(mine, true, rtol=0, atol=1e-12)


class Calls(TorchFunctionMode):
    """Notes the widths of q, k and v, and which of PyTorch's kernels were allowed."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is scaled_dot_product_attention:
            allowed = torch.backends.cuda
            self.widths = [t.shape[-1] for t in args[:3]]
            self.cudnn = allowed.cudnn_sdp_enabled()
            self.others = allowed.flash_sdp_enabled(), allowed.mem_efficient_sdp_enabled(), allowed.math_sdp_enabled()
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("channels", WIDTHS)
def test_rules_of_the_fused_kernels(channels):
    """Multiples of 8 for q, k and v, and of cuDNN no word; nobody else's attention is changed."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    with Calls() as calls:
        attend(*operands(channels))
    assert not any(width % 8 for width in calls.widths)
    assert calls.widths[0] == calls.widths[1] < max(9, channels)
    assert not calls.cudnn and all(calls.others)
    assert torch.backends.cuda.cudnn_sdp_enabled() == before


def test_it_compiles_whole():
    q, k, v = operands(16)
    torch.testing.assert_close(torch.compile(attend, fullgraph=True, backend="eager")(q, k, v), attend(q, k, v))


@pytest.fixture(scope="module")
def chosen(tmp_path_factory) -> dict[tuple, str]:
    """The kernel by function, card, number format, width and whether gradients are needed."""
    printed = run_on_cards(
        HERE / "chosen_kernels.py",
        json.dumps(WIDTHS),
        json.dumps(["float16", "bfloat16", "float32"]),
        cards=" ".join(f"{major}{minor}" for major, minor in CARDS),
        folder=tmp_path_factory.mktemp("stub"),
    )
    return {
        (name, tuple(card), dtype, width, trained): kernel
        for name, card, dtype, width, trained, kernel in json.loads(printed)
    }


def test_every_card_and_width_is_attended_by_a_fused_kernel(chosen):
    unfused = {of: kernel for of, kernel in chosen.items() if of[0] == "attend" and kernel not in FUSED}
    assert {(card, dtype) for _, card, dtype, *_ in unfused} == {(TURING, "bfloat16")}  # that card has none for it
    assert len(chosen) == 2 * 4 * 3 * len(WIDTHS) * 2


@pytest.mark.parametrize("card", [ADA, HOPPER, BLACKWELL])
def test_pytorch_alone_builds_all_weights_of_narrow_networks(chosen, card):
    """Why attend pads: should this fail one day, PyTorch has learned it."""
    assert {chosen["plain", card, dtype, 16, True] for dtype in ("float16", "bfloat16")} == {"math"}


@pytest.mark.parametrize("card", [HOPPER, BLACKWELL])
def test_pytorch_alone_takes_cudnn(chosen, card):
    assert chosen["plain", card, "bfloat16", 64, True] == "cudnn"
