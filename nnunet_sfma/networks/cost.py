"""Parameters and multiply-adds of any network, without allocating it or computing anything."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnunet_sfma.networks.accelerate import accelerate, restore_plain

CONVENTION = (
    "multiply-adds of one image, torch.utils.flop_counter / 2: convolutions and linear layers (conv), "
    "attention products (matmul); norms, activations, pooling and resizing count nothing; "
    "each layer of the equations counts, and beside it (accelerated conv) what is left of them "
    "where a chain of linear maps is computed as one, as in training and prediction"
)


@dataclass(frozen=True)
class Cost:
    """What a network costs for one image.

    Attributes:
        parameters: trainable numbers.
        conv_macs: multiply-adds of convolutions (transposed ones counted once) and linear layers.
        matmul_macs: multiply-adds of attention products.
        accelerated_conv_macs: those of convolutions and linear layers once the network is accelerated.
    """

    parameters: int
    conv_macs: int
    matmul_macs: int
    accelerated_conv_macs: int


def measure_cost(network: nn.Module, image_shape: tuple[int, int, int]) -> Cost:
    """Count a network's parameters and multiply-adds, plain and accelerated.

    Args:
        network: any module on any device; it is moved to the meta device, so give one made for this.
        image_shape: (channels, height, width) of the one image.
    """
    network = network.to("meta").eval()
    conv, matmul = _count(restore_plain(network), image_shape)
    plain = [type(module) for module in network.modules()]
    has_fast_units = plain != [type(module) for module in accelerate(network, "meta").modules()]
    return Cost(
        parameters=sum(p.numel() for p in network.parameters() if p.requires_grad),
        conv_macs=conv,
        matmul_macs=matmul,
        accelerated_conv_macs=_count(network, image_shape)[0] if has_fast_units else conv,
    )


def _count(network: nn.Module, image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Multiply-adds of layers and of attention products."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.empty((1, *image_shape), device="meta"))
    by_operator = counter.get_flop_counts()["Global"]
    layers = sum(flops for operator, flops in by_operator.items() if _is_layer(operator))
    return layers // 2, (sum(by_operator.values()) - layers) // 2


def _is_layer(operator) -> bool:
    return any(name in str(operator) for name in ("convolution", "addmm", "aten.mm"))
