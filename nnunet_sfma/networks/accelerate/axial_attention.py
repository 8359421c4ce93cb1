"""The fast twin of the axial attention in SFMANet's information enhancement module."""

from collections.abc import Iterator

import torch
from torch.autograd.function import once_differentiable

from nnunet_sfma.networks.accelerate.convolution import convolve, gradients
from nnunet_sfma.networks.accelerate.fused_attention import attend
from nnunet_sfma.networks.accelerate.layout import is_full_precision_on_cpu
from nnunet_sfma.networks.sfmanet.axial_attention import AxialAttention

WEIGHTS = 1 << 20  # of the attention at a time on a CPU, 4 MiB in float32


class FastAxialAttention(AxialAttention):
    """Stands for :class:`AxialAttention`; its memory stays linear in the number of positions.

    One convolution projects to q, k and v. In full precision on a CPU PyTorch's fused kernel wants q and v of one
    width, so a few lines at a time are attended by plain operations, and again in the backward pass. Elsewhere PyTorch
    fuses product, softmax and sum; there the other axis takes the place of the heads, so that no batch of B*W sequences
    is formed, whose number such kernels limit, and each position's channels lie side by side in memory.

    Gives up: hooks on the projections; on a CPU the second derivative.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to the same shape."""
        layers = (self.query, self.key, self.value)
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([self.query.bias, torch.zeros_like(self.query.bias), self.value.bias])
        attended = self._attended(x, weight, bias)
        return attended if self.factor is None else (self.factor * attended + x).to(x.dtype)

    def _attended(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        if is_full_precision_on_cpu(x):
            return _FewLinesAtATime.apply(x, weight, bias, self.axis == "column", self.scale)
        if self.axis == "column":
            return self._along_rows(x.transpose(2, 3), weight, bias).transpose(2, 3)
        return self._along_rows(x, weight, bias)

    def _along_rows(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        parts = convolve(x, weight, bias).split(_widths(x), dim=1)
        q, k, v = (part.permute(0, 2, 3, 1).contiguous() for part in parts)
        return attend(q, k, v, self.scale).permute(0, 3, 1, 2)


class _FewLinesAtATime(torch.autograd.Function):
    """The attention by plain operations; its weights and q, k, v are computed again in the backward pass."""

    @staticmethod
    def forward(
        ctx, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, along_columns: bool, scale: float
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.along_columns, ctx.scale = along_columns, scale
        out = torch.empty_like(x)
        lines = (_few_lines(map_, along_columns) for map_ in (_project(x, weight, bias), out))
        for qkv, of_out in zip(*lines, strict=True):
            q, k, v = qkv.split(_widths(x), dim=2)
            of_out.copy_(_attention(q, k, scale) @ v)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        projected = _project(x, weight, bias)
        grad_projected = torch.empty_like(projected)
        lines = (_few_lines(map_, ctx.along_columns) for map_ in (projected, grad, grad_projected))
        for qkv, of_out, of_qkv in zip(*lines, strict=True):
            q, k, v = qkv.contiguous().split(_widths(grad), dim=2)
            of_out = of_out.contiguous()  # columns lie far apart in memory, and both are read twice
            of_q, of_k, of_v = of_qkv.split(_widths(grad), dim=2)
            attention = _attention(q, k, ctx.scale)
            of_v.copy_(attention.mT @ of_out)
            of_logits = (of_out @ v.mT).mul_(attention)
            of_logits.addcmul_(attention, of_logits.sum(dim=2, keepdim=True), value=-1)
            of_logits *= ctx.scale
            of_q.copy_(of_logits @ k)
            of_k.copy_(of_logits.mT @ q)
        return *gradients(x, weight, grad_projected, ctx.needs_input_grad[:3]), None, None


def _widths(x: torch.Tensor) -> list[int]:
    """Channels of q, k and v for a map (B, C, H, W)."""
    return [x.shape[1] // 8, x.shape[1] // 8, x.shape[1]]


def _project(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return convolve(x, weight, bias).contiguous(memory_format=torch.channels_last)


def _few_lines(map_: torch.Tensor, along_columns: bool) -> Iterator[torch.Tensor]:
    """Views (lines, positions, C) of a map (B, C, H, W)."""
    for image in map_.permute(0, 2, 3, 1):
        lines = image.transpose(0, 1) if along_columns else image
        yield from lines.split(max(1, WEIGHTS // lines.shape[1] ** 2))


def _attention(q: torch.Tensor, k: torch.Tensor, scale: float) -> torch.Tensor:
    """``softmax(scale q k^T)`` of lines (lines, positions, d)."""
    return (q * scale @ k.mT).softmax(dim=2)
