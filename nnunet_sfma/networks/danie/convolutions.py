"""The convolutions that DANIE's streams and its decoder share."""

from torch import nn


class ConvNormGelu(nn.Sequential):
    """3x3 convolution - BN - GELU, (B, C_in, H, W) to (B, C_out, H/stride, W/stride).

    The convolution has no bias: batch normalisation would cancel it exactly. GELU is the exact one; MaxViT's own layers
    use the tanh approximation that their weights were trained with.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.GELU(),
        )


class ConvBlock(nn.Sequential):
    """The paper's ConvBlock: twice 3x3 convolution - BN - GELU, (B, C_in, H, W) to (B, C_out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(ConvNormGelu(in_channels, out_channels), ConvNormGelu(out_channels, out_channels))
