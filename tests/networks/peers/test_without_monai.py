"""MONAI is optional: without it a network says what to install."""

import sys

import pytest

from nnunet_sfma.networks.peers import UNETR, AttentionUNet, SwinUNETR, UNetPlusPlus


@pytest.mark.parametrize(
    "peer, options", [(AttentionUNet, {}), (UNetPlusPlus, {}), (SwinUNETR, {}), (UNETR, {"image_size": (32, 32)})]
)
def test_network_says_what_to_install(peer, options, monkeypatch):
    for name in ("monai", "monai.networks", "monai.networks.nets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"^{peer.__name__} needs MONAI: pip install 'nnunet-sfma\[peers\]'$"):
        peer(1, 1, **options)
