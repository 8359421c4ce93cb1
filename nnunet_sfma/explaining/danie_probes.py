"""DANIE's local attention as modules, which Grad-CAM wants to look at."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

from nnunet_sfma.networks.danie import HierarchicalAttentionBlock


class Probes(NamedTuple):
    """Modules that return what the attentions of a block return; each has one for either branch.

    Attributes:
        channel: m_p of equation 2.
        spatial: O_p of equation 3.
    """

    channel: list[nn.Module]
    spatial: list[nn.Module]


@contextmanager
def attention_probes(block: HierarchicalAttentionBlock) -> Iterator[Probes]:
    """Pass what the attentions of a block return through modules that return it unchanged.

    The block computes both as products and not in modules of their own. It is as before when the context ends.
    """
    channel, spatial = ({torch.amax: nn.Identity(), torch.mean: nn.Identity()} for _ in range(2))
    block._channel = _through(channel, block._channel)
    block._spatial = _through(spatial, block._spatial)
    try:
        yield Probes(list(channel.values()), list(spatial.values()))
    finally:
        del block._channel, block._spatial


def _through(probes: dict, attention):
    return lambda feature, pool: probes[pool](attention(feature, pool))
