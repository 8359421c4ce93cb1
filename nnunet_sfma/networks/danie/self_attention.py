"""Self-attentional perception (SAP) of DANIE, equation 1: the MaxViT stream."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from nnunet_sfma.networks.quiet_timm import timm

BACKBONES = ("maxvit_tiny_tf_224", "maxvit_small_tf_224")
STEM_WIDTH = 64
HEAD_WIDTH = 32


class SelfAttentionalPerception(nn.Module):
    """SAP: MaxViT's features at strides 4, 8, 16 and 32; its convolutional stem is the patch embedding.

    ``softmax(q k^T / sqrt(d)) v`` (1), many heads, first within windows and then within a grid that spans the image.

    timm builds the model. Windows and grid are 1/32 of the image, so a model belongs to one image size: on a larger one
    it would run with more and relatively smaller windows and give no sign of it. The sizes of L and S are those of
    ``maxvit_small_tf_224`` and ``maxvit_tiny_tf_224``; other widths and depths make a model of the same kind for which
    nobody has weights.

    Each of timm's BatchNormAct2d is split into normalisation and activation. ``SyncBatchNorm.convert_sync_batchnorm``,
    which nnU-Net calls on several GPUs, would otherwise replace both by the normalisation alone.

    Args:
        input_channels: channels of the image.
        image_size: (H, W), multiples of 32.
        backbone: a key of ``BACKBONES``.
        features_per_stage: four widths, multiples of 32, the width of a head.
        depths: blocks of each of the four stages.

    Raises:
        ValueError: as :func:`check_sizes`.
    """

    def __init__(
        self,
        input_channels: int,
        image_size: tuple[int, int],
        backbone: str,
        features_per_stage: Sequence[int],
        depths: Sequence[int],
    ):
        super().__init__()
        check_sizes(backbone, features_per_stage, depths)
        self.weights_name = published_weights_name(backbone, features_per_stage, depths)
        self.settings = {
            "model_name": backbone,
            "in_chans": input_channels,
            "img_size": tuple(image_size),
            "embed_dim": tuple(features_per_stage),
            "depths": tuple(depths),
            "stem_width": min(STEM_WIDTH, features_per_stage[0]),
            "features_only": True,
            "out_indices": (1, 2, 3, 4),
        }
        self.maxvit = _out_of_place(_split_norm_act(timm.create_model(**self.settings)))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Map (B, input_channels, H, W) to four features, (B, C_1, H/4, W/4) to (B, C_4, H/32, W/32)."""
        return self.maxvit(x)

    def load_pretrained(self, path: Path) -> None:
        """Load a state dict of timm's MaxViT, made for any square image and for three channels.

        timm interpolates the tables of relative positions to the window of this image size, and sums the first
        convolution over the colours for one channel, and repeats or leaves out colours, rescaled, for other numbers.

        Args:
            path: a .safetensors file, or a .pth with a state dict, alone or under "state_dict" or "model".

        Raises:
            OSError: if the file cannot be read.
            ValueError: if it holds anything but this model's weights; nothing is loaded then.
        """
        weights = self._of_this_model(_read(path))
        overlay = {"state_dict": weights}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # timm's interpolation warns of indexing that torch will change
                source = timm.create_model(**self.settings, pretrained=True, pretrained_cfg_overlay=overlay)
        except (AssertionError, RuntimeError) as error:
            raise ValueError(f"timm cannot adapt it ({type(error).__name__})") from error
        self.maxvit.load_state_dict(_split_norm_act(source).state_dict())

    def _of_this_model(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What the features need of a whole model's weights; timm itself would pass over what is missing."""
        with torch.device("meta"):
            features = timm.create_model(**{**self.settings, "in_chans": 3}).state_dict()
        expected = {name.replace("stages_", "stages."): value for name, value in features.items()}
        blocks = {_block(name) for name in expected}
        further = [name for name in weights if name.startswith("stages.") and _block(name) not in blocks]
        # counters of batch normalisation: nothing here uses them, and converted weights may lack them
        needed = [name for name in expected if not name.endswith("num_batches_tracked")]
        for name in needed + further:
            difference = _difference(name, expected.get(name), weights.get(name))
            if difference:
                raise ValueError(f"it is not the {self.settings['model_name']} of these sizes ({difference})")
        return {name: weights[name] for name in expected if name in weights}


def check_sizes(backbone: str, features_per_stage: Sequence[int], depths: Sequence[int]) -> None:
    """Refuse what no MaxViT can be built from.

    Raises:
        ValueError: if the backbone is unknown, or widths and depths are not four whole numbers that it takes.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"backbone must be {' or '.join(BACKBONES)}, got {backbone!r}")
    if not _are_four(features_per_stage) or any(width % HEAD_WIDTH for width in features_per_stage):
        raise ValueError(f"features_per_stage must be four multiples of {HEAD_WIDTH}, got {features_per_stage!r}")
    if not _are_four(depths):
        raise ValueError(f"depths must be four whole numbers from 1 on, got {depths!r}")


def _are_four(numbers: object) -> bool:
    is_list = isinstance(numbers, Sequence) and len(numbers) == 4
    return is_list and all(isinstance(number, int) and number >= 1 for number in numbers)


def published_weights_name(backbone: str, features_per_stage: Sequence[int], depths: Sequence[int]) -> str | None:
    """Where timm's hub has ImageNet weights for a MaxViT of these sizes; None if nowhere."""
    published = timm.models.maxxvit.model_cfgs[backbone.removesuffix("_224")]
    if (*published.embed_dim, *published.depths) != (*features_per_stage, *depths):
        return None
    return timm.get_pretrained_cfg(backbone).hf_hub_id


def _block(name: str) -> str:
    """``stages.0.blocks.1`` of a tensor's name."""
    return ".".join(name.split(".")[:4])


def _difference(name: str, expected: torch.Tensor | None, stored: object) -> str | None:
    if expected is None:
        return f"it has {name}"
    if not isinstance(stored, torch.Tensor):
        return f"it has no {name}"
    fits = stored.shape == expected.shape
    if name.endswith("relative_position_bias_table"):
        fits = stored.ndim == expected.ndim and stored.shape[0] == expected.shape[0]
    return None if fits else f"its {name} has the shape {tuple(stored.shape)}, not {tuple(expected.shape)}"


def _out_of_place(model: nn.Module) -> nn.Module:
    """Let no activation overwrite what a hook of the layer before it has seen; timm's few are of single positions."""
    for module in model.modules():
        if getattr(module, "inplace", False):
            module.inplace = False
    return model


def _split_norm_act(model: nn.Module) -> nn.Module:
    for name, module in list(model.named_modules()):
        if isinstance(module, timm.layers.BatchNormAct2d):
            norm = nn.BatchNorm2d(module.num_features, eps=module.eps, momentum=module.momentum)
            norm.load_state_dict(module.state_dict())
            model.set_submodule(name, nn.Sequential(norm, module.act))
    return model


def _read(path: Path) -> dict:
    """timm has a reader of its own, which on older releases of torch may unpickle what is no tensor."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        content = content.get("state_dict", content.get("model", content))
        return {str(name): value for name, value in content.items()}
    except OSError:
        raise
    except Exception as error:  # each format has its own errors for a file that is not of it
        raise ValueError(f"it is no state dict, {type(error).__name__} when read") from error
