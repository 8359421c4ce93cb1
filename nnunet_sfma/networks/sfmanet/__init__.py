"""SFMANet, a U-Net with spatial-frequency gating, dual-axis attention and information enhancement."""

from nnunet_sfma.networks.sfmanet.axial_attention import AxialAttention
from nnunet_sfma.networks.sfmanet.dual_axis import DualAxisMultiScaleAttentionUnit
from nnunet_sfma.networks.sfmanet.frequency_gating import FrequencyGatingUnit
from nnunet_sfma.networks.sfmanet.information_enhancement import InformationEnhancementModule
from nnunet_sfma.networks.sfmanet.model import SFMANet
from nnunet_sfma.networks.sfmanet.spatial_gating import SpatialGatingUnit

__all__ = [
    "AxialAttention",
    "DualAxisMultiScaleAttentionUnit",
    "FrequencyGatingUnit",
    "InformationEnhancementModule",
    "SFMANet",
    "SpatialGatingUnit",
]
