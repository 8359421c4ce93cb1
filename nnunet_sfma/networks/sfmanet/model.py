"""SFMANet: a U-Net with gated, multi-scale skips and enhanced features between its stages."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_sfma.networks.sfmanet.frequency_gating import FrequencyGatingUnit
from nnunet_sfma.networks.sfmanet.gated_skip import GatedSkip
from nnunet_sfma.networks.sfmanet.information_enhancement import AttentionName
from nnunet_sfma.networks.sfmanet.spatial_gating import GateName, WeightName
from nnunet_sfma.networks.sfmanet.unet import Decoder, Encoder


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
        iem_attention: as above.
        iem_attention_factor: as above.
        init_pointwise: make the skip's initial convolution depthwise separable instead of depthwise.
        sgu_threshold: see :class:`SpatialGatingUnit`.
        sgu_weight: as above.
        sgu_beta: as above.
        sgu_gate: as above.
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
        iem_attention: AttentionName = "scaled",
        iem_attention_factor: bool = False,
        init_pointwise: bool = False,
        sgu_threshold: float = 0.5,
        sgu_weight: WeightName = "group_mean",
        sgu_beta: bool = True,
        sgu_gate: GateName = "kept",
        fgu_alpha: float = 0.5,
        fgu_squeeze: int = 2,
        fgu_groups: int = 4,
        fgu_rescale: bool = True,
    ):
        super().__init__()
        skips = len(features_per_stage) - 1
        iem_stages = skips if iem_stages is None else iem_stages
        self._check(features_per_stage, iem_stages, sfgu, dmau)
        iem = {
            "fuse_kernel": iem_fuse_kernel,
            "fuse_groups": iem_fuse_groups,
            "pointwise": iem_pointwise,
            "attention": iem_attention,
            "attention_factor": iem_attention_factor,
        }
        sgu = {"threshold": sgu_threshold, "weight": sgu_weight, "beta": sgu_beta, "gate": sgu_gate}
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

    def draw_permutations(self, seed: int) -> None:
        """Draw the frequency gating units' permutations from a seed; built without it they are those of seed 0.

        A state dict that is loaded afterwards brings its own.
        """
        for module in self.modules():
            if isinstance(module, FrequencyGatingUnit):
                module.draw_permutations(seed)

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
        skips = [skip(feature) for skip, feature in zip(self.skips, features[:-1], strict=True)]
        return self.decoder(features[-1], skips)[..., :height, :width]
