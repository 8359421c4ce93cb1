"""The fast twin of SFMANet's information enhancement module."""

import torch

from nnunet_sfma.networks.accelerate.convolution import convolve
from nnunet_sfma.networks.accelerate.linear_chains import then_pointwise
from nnunet_sfma.networks.accelerate.recomputation import recomputed, recomputed_if_large
from nnunet_sfma.networks.half_precision import at_least_float32, saturate, without_autocast
from nnunet_sfma.networks.sfmanet.information_enhancement import InformationEnhancementModule


class FastInformationEnhancementModule(InformationEnhancementModule):
    """Stands for :class:`InformationEnhancementModule`.

    The 1x1 convolutions of the branches enter a dense 1x1 fusion, so that each branch is a depthwise and one pointwise
    convolution whose result is added in place, and the map of 4C channels is never written out.

    Gives up: hooks on the branches, the shuffle and the fusion; on a CPU the second derivative.

    Attributes:
        checkpointing: keep nothing but the input for the backward pass.
    """

    checkpointing = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to the same shape."""
        return recomputed(super().forward, x) if self.checkpointing else super().forward(x)

    def _fused(self, x: torch.Tensor) -> torch.Tensor:
        if not self._merging_pays(x):
            return recomputed_if_large(super()._fused, x)
        with without_autocast(x):
            weights, bias = self._merged()
        first = convolve(x, weights[0], bias)
        fused = at_least_float32(first)
        for (depthwise, _), weight in zip(self.branches, weights[1:], strict=True):
            fused += recomputed_if_large(lambda x, d=depthwise, w=weight: convolve(d(x), w), x)
        return saturate(fused, first.dtype)

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
