"""Tensors of a CUDA device without one: they have shapes, formats and devices, and hold no numbers."""

from collections.abc import Callable

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class OneDevice(TorchDispatchMode):
    """Raises AssertionError at whatever leaves the GPU, or makes the CPU wait for it.

    Fake tensors themselves refuse maps of two devices and most of what depends on a number, as ``item`` does. They let
    copies between devices pass, and numbers of the CPU beside maps of the GPU. A number that is written into a part of
    a map, as in ``mask[:, 2:] = 1``, is such a number, but PyTorch reads it on the CPU.
    """

    WRITE_A_NUMBER = (torch.ops.aten.lift_fresh, torch.ops.aten.fill_, torch.ops.prim.device)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
        if function.overloadpacket in self.WRITE_A_NUMBER:
            tensors = [tensor for tensor in tensors if tensor.ndim > 0]
        elsewhere = {tensor.device.type for tensor in tensors} - {"cuda"}
        assert not elsewhere, f"{function} on {elsewhere}"
        return out


class OneFormat(TorchDispatchMode):
    """Raises AssertionError at a convolution or fused attention that is not in the format of autocast.

    Those are what half precision is for. Of the small matrix products some are in float32 on purpose.
    """

    LARGE = (
        torch.ops.aten.convolution,
        torch.ops.aten.convolution_backward,
        torch.ops.aten._scaled_dot_product_flash_attention,
        torch.ops.aten._scaled_dot_product_efficient_attention,
    )

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket in self.LARGE:
            assert args[0].dtype == self.dtype, f"{function} in {args[0].dtype}"
        return function(*args, **(kwargs or {}))


def on_fake_cuda(network: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """What ``network.to("cuda")`` does to a network of real tensors: what is registered moves, all else stays."""
    moved: dict[int, torch.Tensor] = {}
    for module in network.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and id(tensor) not in moved:
                    fake = mode.from_tensor(tensor).detach().to("cuda")
                    is_parameter = isinstance(tensor, nn.Parameter)
                    moved[id(tensor)] = nn.Parameter(fake, tensor.requires_grad) if is_parameter else fake
                if tensor is not None:
                    tensors[name] = moved[id(tensor)]
    return network


def train_once(
    network: nn.Module, images: torch.Tensor, loss: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype | None
) -> torch.Tensor:
    """A step of training on the GPU alone, as nnU-Net's trainer takes it; returns the logits.

    Args:
        network: on the GPU.
        images: (B, C, H, W), on the GPU.
        loss: of the logits.
        dtype: of autocast; None for none.

    Raises:
        AssertionError: if a tensor lies elsewhere, a large operation is in another format than autocast's, or a
            parameter gets no gradient, or one of another format.
    """
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.99, nesterov=True)
    with OneDevice(), OneFormat(dtype or torch.float32):
        with torch.autocast("cuda", dtype=dtype, enabled=dtype is not None):
            output = network.train()(images)
            value = loss(output)
        value.backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, f"{name} has no gradient"
            assert parameter.grad.dtype == parameter.dtype, f"{name}'s gradient is {parameter.grad.dtype}"
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimiser.step()
    assert value.dtype == torch.float32, f"the loss is {value.dtype}"
    return output
