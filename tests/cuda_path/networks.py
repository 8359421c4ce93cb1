"""The networks of all presets, as small as their units allow."""

import json

from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from nnunet_sfma.presets import load_preset, preset_names
from nnunet_sfma.trainers.complete_plans import fit_to_patch

SIDE = 64
# each unit once: the wider and deeper networks are more of the same
SMALLER = {
    "SFMANet": {"features_per_stage": [32, 64]},
    "DANIE": {
        "features_per_stage": [32, 32, 32, 32],
        "backbone": "maxvit_tiny_tf_224",
        "depths": [1, 1, 1, 1],
        "blocks_per_stage": 1,
    },
    "AttentionUNet": {"features_per_stage": [8, 16, 32]},
    "UNetPlusPlus": {"features_per_stage": [8, 16, 32, 64, 64]},
    "SwinUNETR": {"feature_size": 12, "depths": [1, 1, 1, 1]},
    "UNETR": {"feature_size": 4, "hidden_size": 48, "mlp_dim": 48},
}


def small_architecture(preset: str, side: int = SIDE) -> dict:
    """A preset's ``architecture`` block with all its switches, for a small network and this patch."""
    block = fit_to_patch(load_preset(preset).architecture, [side, side])
    block["arch_kwargs"] |= SMALLER[block["network_class_name"].rpartition(".")[2]]
    if block["arch_kwargs"].get("iem_stages"):
        block["arch_kwargs"]["iem_stages"] = 1
    return block


def distinct_networks() -> dict[str, dict]:
    """The ``architecture`` block of each network that differs, by the first preset that has it.

    nnU-Net's own is left out: its presets have no block.
    """
    presets = [name for name in preset_names() if load_preset(name).architecture is not None]
    blocks = {json.dumps(small_architecture(name), sort_keys=True): name for name in reversed(presets)}
    return {name: json.loads(block) for block, name in reversed(blocks.items())}


def nnunets_loss() -> DC_and_CE_loss:
    """The loss that the trainers take on one GPU, without deep supervision."""
    dice = {"batch_dice": True, "do_bg": False, "ddp": False}
    return DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)
