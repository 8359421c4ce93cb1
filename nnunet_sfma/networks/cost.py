"""Parameters and multiply-adds of any network, without allocating it or computing anything."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

CONVENTION = (
    "multiply-adds of one image, torch.utils.flop_counter / 2: convolutions and linear layers (conv), "
    "attention products (matmul); norms, activations, pooling and resizing count nothing; "
    "a chain of linear maps counts as the one map that is computed: "
    "with each of its equations by itself sfmanet takes 67.62 + 3.21, sfmanet-r1 88.38 + 3.17"
)


@dataclass(frozen=True)
class Cost:
    """What a network costs for one image.

    Attributes:
        parameters: trainable numbers.
        conv_macs: multiply-adds of convolutions (transposed ones counted once) and linear layers.
        matmul_macs: multiply-adds of attention products.
    """

    parameters: int
    conv_macs: int
    matmul_macs: int


def measure_cost(network: nn.Module, image_shape: tuple[int, int, int]) -> Cost:
    """Count a network's parameters and multiply-adds.

    Args:
        network: any module on any device; it is moved to the meta device, so give one made for this.
        image_shape: (channels, height, width) of the one image.
    """
    network = network.to("meta").eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.empty((1, *image_shape), device="meta"))
    by_operator = counter.get_flop_counts()["Global"]
    conv = sum(flops for operator, flops in by_operator.items() if _is_layer(operator))
    return Cost(
        parameters=sum(p.numel() for p in network.parameters() if p.requires_grad),
        conv_macs=conv // 2,
        matmul_macs=(sum(by_operator.values()) - conv) // 2,
    )


def _is_layer(operator) -> bool:
    return any(name in str(operator) for name in ("convolution", "addmm", "aten.mm"))
