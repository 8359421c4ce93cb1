"""UNETR in 2D, as MONAI builds it."""

from collections.abc import Sequence

from torch import nn

from nnunet_sfma.networks.peers.library import monai_networks
from nnunet_sfma.networks.peers.padded_network import PaddedNetwork, pad_to_multiples
from nnunet_sfma.networks.peers.whole_numbers import check_whole_numbers

TOKEN_SIDE = 16


class UNETR(PaddedNetwork):
    """MONAI's ``UNETR`` with 2D tokens: a Vision Transformer of 12 blocks and a convolutional decoder.

    Neither paper compares with it; it is here as the transformer that people know. The defaults give 87.32 M parameters
    for 256 x 256. Its position embeddings belong to one size of image, to which smaller ones are padded.

    MONAI's blocks hold a norm for cross-attention, which is never computed here. It is taken off: several GPUs need a
    gradient for each parameter.

    Args:
        input_channels: channels of the image.
        num_classes: channels of the logits.
        image_size: (H, W) of the images, in nnU-Net the patch.
        feature_size: width of the decoder's finest stage.
        hidden_size: width of the tokens, a multiple of ``num_heads``.
        mlp_dim: width within the transformer's perceptrons.
        num_heads: attention heads.

    Raises:
        ModuleNotFoundError: if MONAI is not installed.
        ValueError: if the sizes do not fit together.
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        image_size: Sequence[int],
        feature_size: int = 16,
        hidden_size: int = 768,
        mlp_dim: int = 3072,
        num_heads: int = 12,
    ):
        check_whole_numbers("image_size", image_size, count=2)
        check_whole_numbers(
            "feature_size, hidden_size, mlp_dim, num_heads", [feature_size, hidden_size, mlp_dim, num_heads]
        )
        network = monai_networks("UNETR").UNETR(
            in_channels=input_channels,
            out_channels=num_classes,
            img_size=pad_to_multiples(image_size, TOKEN_SIDE),
            feature_size=feature_size,
            hidden_size=hidden_size,
            mlp_dim=mlp_dim,
            num_heads=num_heads,
            spatial_dims=2,
        )
        for block in network.vit.blocks:
            block.norm_cross_attn = nn.Identity()
        super().__init__(network, input_channels, TOKEN_SIDE, image_size)
