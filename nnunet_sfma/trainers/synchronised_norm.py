"""Batch normalisation over all GPUs' batches that a compiler takes in as part of one graph."""

import torch
import torch.distributed as dist
from torch import nn

from nnunet_sfma.networks.half_precision import at_least_float32


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """Computes what ``nn.SyncBatchNorm`` computes, in operations that ``torch.compile`` traces and fuses.

    PyTorch's own breaks the graph at every layer (23 graphs for SFMANet, 43 for DANIE-S) and waits for the GPU in each.
    This one sums over the ranks twice in each pass, mean first, so that no digits cancel in the variance. Without a
    compiler PyTorch's own is better: it keeps no maps in float32.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, H, W); in evaluation by the running statistics, as batch normalisation does."""
        if not self.training:
            return super().forward(x)
        axes = [0, *range(2, x.ndim)]
        wide = at_least_float32(x)
        number = wide.new_full((1,), x.numel() // x.shape[1])
        *sums, number = SumOverRanks.apply(torch.cat([wide.sum(axes), number])).split([x.shape[1], 1])
        mean = sums[0] / number
        centred = wide - _as_map(mean, x)
        variance = SumOverRanks.apply(centred.square().sum(axes)) / number
        self._track(mean.detach(), variance.detach() * (number / (number - 1)))
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return torch.addcmul(_as_map(self.bias, x), centred, _as_map(scale, x)).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class SumOverRanks(torch.autograd.Function):
    """The sum of all ranks' tensors, on each of them; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        return _sum(x)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return _sum(gradient)


def _sum(x: torch.Tensor) -> torch.Tensor:
    summed = torch.ops._c10d_functional.all_reduce(x.contiguous(), "sum", dist.group.WORLD.group_name)
    return torch.ops._c10d_functional.wait_tensor(summed)


def _as_map(of_channels: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return of_channels.view(1, -1, *[1] * (x.ndim - 2))


def synchronise_in_one_graph(network: nn.Module) -> nn.Module:
    """Let :class:`SynchronisedBatchNorm` stand in for each ``nn.SyncBatchNorm`` of a network that is compiled.

    The modules stay the same objects with the same parameters and buffers.
    """
    for module in network.modules():
        if type(module) is nn.SyncBatchNorm and module.affine and module.track_running_stats and module.momentum:
            module.__class__ = SynchronisedBatchNorm
    return network
