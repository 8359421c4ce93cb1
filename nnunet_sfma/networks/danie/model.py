"""DANIE: a self-attentional and a hierarchical-attentional encoder, joined at four scales."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_sfma.networks.danie.hierarchical_attention import HierarchicalAttentionalPerception
from nnunet_sfma.networks.danie.joint_preservation import FusionName, JointPreservation
from nnunet_sfma.networks.danie.self_attention import SelfAttentionalPerception, check_sizes
from nnunet_sfma.networks.half_precision import at_least_float32

STRIDE = 32
SMALLEST_SIDE = 2 * STRIDE


class PredictionHeads(nn.Module):
    """A 1x1 convolution per scale, raised to the size of the image and added, equation 12 with all weights 1.

    ::

        y = p_1 + p_2 + p_3 + p_4        (12)

    Named ``seg_layers`` because nnU-Net leaves exactly those parameters out when it loads pretrained weights from
    another label set.
    """

    def __init__(self, features_per_stage: Sequence[int], num_classes: int):
        super().__init__()
        self.seg_layers = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in features_per_stage)

    def forward(self, maps: Sequence[torch.Tensor], size: Sequence[int]) -> torch.Tensor:
        """Map j_1 ... j_4 to logits (B, num_classes, *size); they are raised and added in at least float32."""
        predictions = (at_least_float32(head(j)) for head, j in zip(self.seg_layers, maps, strict=True))
        return sum(F.interpolate(p, size=size, mode="bilinear", align_corners=False) for p in predictions)


class DANIE(nn.Module):
    """DANIE, a 2D segmentation network of two attention encoders and a joint decoder.

    ::

        S_1..S_4 = SAP(x);  H_1..H_4 = HAP(x);  j_1..j_4 = JP(S, H);  logits = sum_i Up(Conv1x1(j_i))

    The defaults are DANIE-L with 26.53 G multiply-adds for 3 x 256 x 256 (published: 26.55). DANIE-S, widths 64 to 512,
    has 12.24 (published: 13.29; no reading was found that gives both). One output, no deep supervision. HAP and JP
    start from PyTorch's default weights, which the paper leaves open, SAP from timm's, unless
    :attr:`pretrained_part` is given published ones.

    Args:
        input_channels: channels of the image, any number.
        num_classes: channels of the logits.
        image_size: (H, W) of the images, in nnU-Net the patch. MaxViT's windows belong to it.
        backbone: see :class:`SelfAttentionalPerception`.
        features_per_stage: four widths, the same in both streams, multiples of 32.
        depths: blocks of MaxViT's four stages.
        self_attention: have the MaxViT stream.
        hierarchical_attention: have the hierarchical stream.
        blocks_per_stage: blocks of each stage of the hierarchical stream.
        channel_attention: see :class:`HierarchicalAttentionBlock`.
        spatial_attention: as above.
        attention_order: as above.
        dynamic_calibration: as above.
        calibration_map: as above.
        fusion: see :class:`JointPreservation`; a single stream takes "add".
        jp_fuse_conv: see :class:`EnhancedSum`.
        es_scale: see :class:`EnhancingSelfAttention`.

    Raises:
        ValueError: if sizes, widths or switches do not fit together; the message gives the rule.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        image_size: Sequence[int],
        backbone: str = "maxvit_small_tf_224",
        features_per_stage: Sequence[int] = (96, 192, 384, 768),
        depths: Sequence[int] = (2, 2, 5, 2),
        self_attention: bool = True,
        hierarchical_attention: bool = True,
        blocks_per_stage: int = 2,
        channel_attention: bool = True,
        spatial_attention: bool = True,
        attention_order: Literal["channel_spatial", "spatial_channel"] = "channel_spatial",
        dynamic_calibration: bool = True,
        calibration_map: bool = True,
        fusion: FusionName = "joint_preservation",
        jp_fuse_conv: bool = True,
        es_scale: float | None = None,
    ):
        super().__init__()
        streams = self_attention + hierarchical_attention
        if streams == 0 or (streams == 1 and fusion != "add"):
            raise ValueError(f"{streams} streams cannot be fused by {fusion}: a single stream takes fusion 'add'")
        check_sizes(backbone, features_per_stage, depths)
        self.input_channels = input_channels
        self.image_size = _checked(image_size)
        attention = {
            "channel_attention": channel_attention,
            "spatial_attention": spatial_attention,
            "attention_order": attention_order,
            "dynamic_calibration": dynamic_calibration,
            "calibration_map": calibration_map,
        }
        self.sap = (
            SelfAttentionalPerception(
                input_channels, self.padded_size(self.image_size), backbone, features_per_stage, depths
            )
            if self_attention
            else None
        )
        self.hap = (
            HierarchicalAttentionalPerception(input_channels, features_per_stage, blocks_per_stage, attention)
            if hierarchical_attention
            else None
        )
        self.joint_preservation = JointPreservation(features_per_stage, fusion, jp_fuse_conv, es_scale)
        self.heads = PredictionHeads(features_per_stage, num_classes)

    @staticmethod
    def padded_size(size: Sequence[int]) -> tuple[int, int]:
        """(H, W) that the network computes with: multiples of 32 from 64 on.

        At 32 a window would be a single position, and batch normalisation would see one number per image and channel.
        """
        height, width = (max(-(-side // STRIDE) * STRIDE, SMALLEST_SIDE) for side in size)
        return height, width

    @property
    def pretrained_part(self) -> SelfAttentionalPerception | None:
        """The stream that can start from published weights, if the network has it."""
        return self.sap

    def no_weight_decay(self) -> set[str]:
        """Names of what has the shape of weight matrices and is none: tables of relative positions, single numbers."""
        parameters = self.named_parameters()
        return {name for name, p in parameters if name.endswith("relative_position_bias_table") or p.numel() == 1}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map an image (B, input_channels, H, W) to logits (B, num_classes, H, W).

        An image smaller than ``padded_size(image_size)`` is padded with zeros at the end and the logits cropped back.

        Raises:
            ValueError: if the image is larger, has other channels or is no batch of 2D images.
        """
        size = self.padded_size(self.image_size)
        if x.ndim != 4 or x.shape[1] != self.input_channels or x.shape[2] > size[0] or x.shape[3] > size[1]:
            raise ValueError(
                f"DANIE was built for images of shape (batch, {self.input_channels}, {size[0]}, {size[1]}) or smaller, "
                f"got {tuple(x.shape)}"
            )
        height, width = x.shape[2:]
        x = F.pad(x, (0, size[1] - width, 0, size[0] - height))
        streams = [stream(x) for stream in (self.sap, self.hap) if stream is not None]
        return self.heads(self.joint_preservation(*streams), size)[..., :height, :width]


def _checked(image_size: Sequence[int]) -> tuple[int, int]:
    if not isinstance(image_size, Sequence) or len(image_size) != 2 or any(side < 1 for side in image_size):
        raise ValueError(f"image_size is the height and width of the images, got {image_size!r}")
    height, width = image_size
    return height, width
