"""SFMANet: a U-Net with gated, multi-scale skips and enhanced features between its stages."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_sfma.networks.convolution import Convolution
from nnunet_sfma.networks.half_precision import at_least_float32, saturate
from nnunet_sfma.networks.layout import in_faster_layout, is_full_precision_on_cpu
from nnunet_sfma.networks.recomputation import recomputed, recomputed_if_large, recomputed_module
from nnunet_sfma.networks.sfmanet.dual_axis import DualAxisMultiScaleAttentionUnit
from nnunet_sfma.networks.sfmanet.frequency_gating import FrequencyGatingUnit
from nnunet_sfma.networks.sfmanet.information_enhancement import InformationEnhancementModule
from nnunet_sfma.networks.sfmanet.spatial_gating import SpatialGatingUnit


def normalised(x: torch.Tensor, norm: nn.BatchNorm2d) -> torch.Tensor:
    """``norm(x)``; in the place of x where it may be overwritten and full precision leaves room for it."""
    if norm.training or norm.running_var is None or torch.is_grad_enabled() or not is_full_precision_on_cpu(x):
        return norm(x)
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = torch.addcmul(norm.bias, norm.running_mean, scale, value=-1)
    return torch.addcmul(shift.view(1, -1, 1, 1), x, scale.view(1, -1, 1, 1), out=x)


class DoubleConvolution(nn.Module):
    """[3x3 convolution - BN - ReLU] twice, (B, C_in, H, W) to (B, C_out, H, W).

    The convolutions have no bias: batch normalisation would cancel it exactly. Their outputs saturate in float16, since
    in the decoder they read the unbounded product of equation 20.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = Convolution(in_channels, out_channels, 3, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = Convolution(out_channels, out_channels, 3, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2)):
            x = conv(in_faster_layout(x, conv.weight))
            x = F.relu_(normalised(saturate(x, x.dtype), norm))
        return x


class GatedSkip(nn.Module):
    """SFGU with or without DMAU on one skip connection, (B, C, H, W) to the same shape.

    ``X = DW5x5(X_in)`` feeds both gating units. With DMAU the skip is equation 20. Without it (a row of the paper's
    Tables 3 and 4 for which no formula is printed) the skip is Out_S + Out_C.
    """

    def __init__(self, channels: int, sgu: dict, fgu: dict, dmau: bool, init_pointwise: bool):
        super().__init__()
        self.init = nn.Sequential(Convolution(channels, channels, 5, groups=channels))
        if init_pointwise:
            self.init.append(Convolution(channels, channels, 1))
        self.sgu = SpatialGatingUnit(channels, **sgu)
        self.fgu = FrequencyGatingUnit(channels, **fgu)
        self.dmau = DualAxisMultiScaleAttentionUnit(channels) if dmau else None

    def forward(self, x_in: torch.Tensor) -> torch.Tensor:
        x = self.init(x_in)
        out_s, out_c = recomputed_if_large(self.sgu, x), recomputed_if_large(self.fgu, x)
        if self.dmau is None:
            return saturate(at_least_float32(out_s) + at_least_float32(out_c), out_c.dtype)
        return self.dmau(x_in, x, out_s, out_c)


def _run(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return module(x)


class Encoder(nn.Module):
    """Double convolutions with an IEM in front of the pooling; returns every stage's feature, finest first."""

    checkpointing = False

    def __init__(self, input_channels: int, features_per_stage: Sequence[int], iem: dict, iem_stages: int):
        super().__init__()
        widths = [input_channels, *features_per_stage]
        self.stages = nn.ModuleList(DoubleConvolution(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.iem = nn.ModuleList(
            InformationEnhancementModule(width, **iem) if i < iem_stages else nn.Identity()
            for i, width in enumerate(features_per_stage[:-1])
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        run = recomputed_module if self.checkpointing else _run
        features = [run(self.stages[0], x)]
        for stage, iem in zip(self.stages[1:], self.iem, strict=True):
            features.append(run(stage, F.max_pool2d(run(iem, features[-1]), 2)))
        return features


class Decoder(nn.Module):
    """Transposed convolution, concatenation with the skip, double convolution; from the deepest stage up.

    The head is named ``seg_layers`` because nnU-Net leaves exactly those parameters out when it loads pretrained
    weights from another label set.
    """

    checkpointing = False

    def __init__(self, features_per_stage: Sequence[int], num_classes: int):
        super().__init__()
        deep_to_fine = list(features_per_stage)[::-1]
        pairs = list(zip(deep_to_fine, deep_to_fine[1:], strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, fine, 2, stride=2) for deep, fine in pairs)
        self.stages = nn.ModuleList(DoubleConvolution(2 * fine, fine) for _, fine in pairs)
        self.seg_layers = nn.ModuleList([nn.Conv2d(features_per_stage[0], num_classes, 1)])

    def forward(self, deepest: torch.Tensor, skips: Sequence[torch.Tensor]) -> torch.Tensor:
        x = deepest
        run = recomputed_module if self.checkpointing else _run
        for up, stage, skip in zip(self.up, self.stages, reversed(skips), strict=True):
            x = run(stage, torch.cat([skip, up(x)], dim=1))
        return self.seg_layers[0](x)


class SFMANet(nn.Module):
    """SFMANet, a 2D segmentation network for lesions of irregular shape and soft borders.

    ::

        x_l = Enc_l(.);  skip_l = SFGU_DMAU_l(x_l);  next stage's input = MaxPool(IEM_l(x_l))
        d_l = Dec_l(Cat[skip_l, Up(d_l+1)]);  logits = Conv1x1(d_0)

    The skip takes the encoder's feature before the IEM. The deepest stage has neither module. One output, no deep
    supervision. The defaults give 36.97 M parameters (published: 36.92 M). A reading with ``iem_stages=3,
    iem_fuse_kernel=3, iem_pointwise=False`` meets the published multiply-adds as well, but contradicts the sentence
    that puts an IEM on all four scales. With ``sfgu=False, dmau=False, iem_stages=0`` this is the U-Net of 31.04 M
    parameters that the paper compares with. Weights start from PyTorch's defaults; the paper names no scheme.

    Args:
        input_channels: channels of the image, any number.
        num_classes: channels of the logits.
        features_per_stage: widths from the finest to the deepest stage. With SFGU each skip's width is a multiple of 16
            (of 32 for ``fgu_alpha`` other than 0.5), with IEM of 8.
        sfgu: put SGU and FGU on the skips.
        dmau: put DMAU behind them; needs ``sfgu``.
        iem_stages: how many stages, counted from the finest, have an IEM; None means all but the deepest.
        iem_fuse_kernel: see :class:`InformationEnhancementModule`.
        iem_fuse_groups: as above.
        iem_pointwise: as above.
        init_pointwise: make the skip's initial convolution depthwise separable instead of depthwise.
        sgu_threshold: see :class:`SpatialGatingUnit`.
        fgu_alpha: see :class:`FrequencyGatingUnit`.
        fgu_squeeze: as above.
        fgu_groups: as above.
        fgu_rescale: as above.

    Raises:
        ValueError: if the widths or switches do not fit together; the message gives the rule.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        features_per_stage: Sequence[int] = (64, 128, 256, 512, 1024),
        sfgu: bool = True,
        dmau: bool = True,
        iem_stages: int | None = None,
        iem_fuse_kernel: int = 1,
        iem_fuse_groups: int = 1,
        iem_pointwise: bool = True,
        init_pointwise: bool = False,
        sgu_threshold: float = 0.5,
        fgu_alpha: float = 0.5,
        fgu_squeeze: int = 2,
        fgu_groups: int = 4,
        fgu_rescale: bool = True,
    ):
        super().__init__()
        skips = len(features_per_stage) - 1
        iem_stages = skips if iem_stages is None else iem_stages
        self._check(features_per_stage, iem_stages, sfgu, dmau)
        iem = {"fuse_kernel": iem_fuse_kernel, "fuse_groups": iem_fuse_groups, "pointwise": iem_pointwise}
        sgu = {"threshold": sgu_threshold}
        fgu = {"alpha": fgu_alpha, "squeeze": fgu_squeeze, "groups": fgu_groups, "rescale": fgu_rescale}
        self.input_channels = input_channels
        self.divisor = 2**skips
        self.encoder = Encoder(input_channels, features_per_stage, iem, iem_stages)
        self.skips = nn.ModuleList(
            GatedSkip(width, sgu, fgu, dmau, init_pointwise) if sfgu else nn.Identity()
            for width in features_per_stage[:-1]
        )
        self.decoder = Decoder(features_per_stage, num_classes)

    @staticmethod
    def _check(features_per_stage: Sequence[int], iem_stages: int, sfgu: bool, dmau: bool) -> None:
        if len(features_per_stage) < 2:
            raise ValueError(f"features_per_stage needs at least two widths, got {list(features_per_stage)}")
        if not 0 <= iem_stages < len(features_per_stage):
            raise ValueError(f"iem_stages lies between 0 and {len(features_per_stage) - 1}, got {iem_stages}")
        if dmau and not sfgu:
            raise ValueError("dmau works on the outputs of sfgu: switch sfgu on or dmau off")

    def checkpoint_activations(self) -> None:
        """From now on keep only what lies between stages for the backward pass, and compute the rest again there."""
        self.encoder.checkpointing = self.decoder.checkpointing = True

    def padded_size(self, size: Sequence[int]) -> tuple[int, int]:
        """(H, W) that the network computes with: multiples of 2**(stages - 1)."""
        height, width = (-(-side // self.divisor) * self.divisor for side in size)
        return height, width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map an image (B, input_channels, H, W) to logits (B, num_classes, H, W).

        Sides that are not multiples of 2**(stages - 1) are padded with zeros at the end and the logits cropped back.

        Raises:
            ValueError: if the image has another number of channels or is no batch of 2D images.
        """
        if x.ndim != 4 or x.shape[1] != self.input_channels:
            raise ValueError(
                f"SFMANet was built for images of shape (batch, {self.input_channels}, height, width), "
                f"got {tuple(x.shape)}"
            )
        height, width = x.shape[2:]
        padded = self.padded_size((height, width))
        x = F.pad(x, (0, padded[1] - width, 0, padded[0] - height))
        features = self.encoder(x)
        run = recomputed if self.encoder.checkpointing else recomputed_if_large
        skips = [run(gate, feature) for gate, feature in zip(self.skips, features[:-1], strict=True)]
        return self.decoder(features[-1], skips)[..., :height, :width]
