"""DANIE, two attention encoders whose features are preserved jointly."""

from nnunet_sfma.networks.danie.enhancing_hierarchical_attention import EnhancingHierarchicalAttention
from nnunet_sfma.networks.danie.enhancing_self_attention import EnhancingSelfAttention
from nnunet_sfma.networks.danie.hierarchical_attention import (
    HierarchicalAttentionalPerception,
    HierarchicalAttentionBlock,
)
from nnunet_sfma.networks.danie.joint_preservation import JointPreservation
from nnunet_sfma.networks.danie.model import DANIE
from nnunet_sfma.networks.danie.self_attention import SelfAttentionalPerception

__all__ = [
    "DANIE",
    "EnhancingHierarchicalAttention",
    "EnhancingSelfAttention",
    "HierarchicalAttentionBlock",
    "HierarchicalAttentionalPerception",
    "JointPreservation",
    "SelfAttentionalPerception",
]
