"""Information enhancement module (IEM) of SFMANet, equations 21-23."""

import torch
from torch import nn

from nnunet_sfma.networks.convolution import Convolution, convolve
from nnunet_sfma.networks.half_precision import at_least_float32, saturate, without_autocast
from nnunet_sfma.networks.linear_chains import then_pointwise
from nnunet_sfma.networks.recomputation import recomputed_if_large
from nnunet_sfma.networks.sfmanet.axial_attention import AxialAttention


class InformationEnhancementModule(nn.Module):
    """IEM: three depthwise scales, shuffled, fused, and attended along columns and then rows, equations 21-23.

    ::

        F_k = DW_kxk(X), k = 3, 5, 7          (each followed by a 1x1 if ``pointwise``)  (21)
        F_cat = Cat[X, F_3, F_5, F_7]                                                    (22)
        F = Fuse(Shuffle(F_cat))              4C -> C
        out = F + RAA(CAA(F))                                                            (23)

    The paper does not say where 4C channels become C again. Attention at 4C would alone exceed the published number of
    parameters, so the reduction comes before it. The shuffle is the deterministic one of four groups; in front of a
    dense fusion it is absorbed by the weights and matters only with ``fuse_groups`` > 1.

    Args:
        channels: C, a multiple of 8.
        fuse_kernel: side of the fusing convolution, odd.
        fuse_groups: groups of the fusing convolution.
        pointwise: make the three branches depthwise separable.

    Raises:
        ValueError: if the channels are not a multiple of 8, the groups do not divide them or the kernel is even.
    """

    sources = 4

    def __init__(self, channels: int, fuse_kernel: int = 1, fuse_groups: int = 1, pointwise: bool = True):
        super().__init__()
        if fuse_kernel % 2 == 0:
            raise ValueError(f"the fusing kernel is odd, so that the size stays; got {fuse_kernel}")
        if channels % fuse_groups:
            raise ValueError(f"{fuse_groups} fusion groups do not divide {channels} channels")
        self.branches = nn.ModuleList(self._branch(channels, k, pointwise) for k in (3, 5, 7))
        self.shuffle = nn.ChannelShuffle(self.sources)
        self.fuse = Convolution(self.sources * channels, channels, fuse_kernel, groups=fuse_groups)
        self.column_attention = AxialAttention(channels, "column")
        self.row_attention = AxialAttention(channels, "row")

    @staticmethod
    def _branch(channels: int, kernel: int, pointwise: bool) -> nn.Sequential:
        layers = [Convolution(channels, channels, kernel, groups=channels)]
        if pointwise:
            layers.append(Convolution(channels, channels, 1))
        return nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to the same shape."""
        fused = self._fuse(x)
        return fused + self.row_attention(self.column_attention(fused))

    def _fuse(self, x: torch.Tensor) -> torch.Tensor:
        """Equations 21 and 22 and the fusion."""
        if not self._merging_pays(x):
            return recomputed_if_large(self._fuse_concatenated, x)
        with without_autocast(x):
            weights, bias = self._merged()
        first = convolve(x, weights[0], bias)
        fused = at_least_float32(first)
        for (depthwise, _), weight in zip(self.branches, weights[1:], strict=True):
            fused += recomputed_if_large(lambda x, d=depthwise, w=weight: convolve(d(x), w), x)
        return saturate(fused, first.dtype)

    def _fuse_concatenated(self, x: torch.Tensor) -> torch.Tensor:
        concatenated = torch.cat([x, *(branch(x) for branch in self.branches)], dim=1)
        return self.fuse(self.shuffle(concatenated))

    def _merging_pays(self, x: torch.Tensor) -> bool:
        """Whether the 1x1 convolutions of the branches can enter the fusion's, and that saves multiplications."""
        pointwise = self.fuse.kernel_size == (1, 1) and self.fuse.groups == 1 and len(self.branches[0]) == 2
        return pointwise and (torch.compiler.is_compiling() or x.shape[0] * x.shape[2] * x.shape[3] > x.shape[1])

    def _merged(self) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Weights (C, C, 1, 1) from each source to F, and the bias (C,) of all together."""
        first, *others = self.fuse.weight.flatten(1).unflatten(1, (-1, self.sources)).unbind(2)
        weights, bias = [first[:, :, None, None]], self.fuse.bias
        for (_, pointwise), source in zip(self.branches, others, strict=True):
            weight, bias = then_pointwise(pointwise.weight, pointwise.bias, source, bias)
            weights.append(weight)
        return weights, bias
