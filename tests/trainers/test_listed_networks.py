"""Which networks plans may name: what is not listed is neither imported nor called."""

import json

import pytest

from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError
from nnunet_sfma.presets import load_preset, preset_names
from nnunet_sfma.trainers.complete_plans import build_network, fit_to_patch
from nnunet_sfma.trainers.listed_networks import check_architecture

UNETS = "dynamic_network_architectures.architectures.unet"
UNET = {
    "n_stages": 2,
    "features_per_stage": [4, 8],
    "conv_op": "torch.nn.modules.conv.Conv2d",
    "kernel_sizes": [[3, 3], [3, 3]],
    "strides": [[1, 1], [2, 2]],
    "n_conv_per_stage": [1, 1],
    "n_conv_per_stage_decoder": [1],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
CLASSES = ["conv_op", "norm_op", "dropout_op", "nonlin"]


def block(name: str = f"{UNETS}.PlainConvUNet", classes: object = CLASSES, **changes) -> dict:
    return {
        "network_class_name": name,
        "arch_kwargs": UNET | changes if name.startswith(UNETS) else changes,
        "_kw_requires_import": classes if name.startswith(UNETS) else [],
    }


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A module on the path whose import, or whose function, leaves a file."""
    mark = tmp_path / "ran"
    (tmp_path / "stranger.py").write_text(
        f"open({str(mark)!r}, 'w')\nfrom torch import nn\nclass Network(nn.Module):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return mark


@pytest.mark.parametrize(
    "architecture, sentence",
    [
        (block("stranger.Network"), "'stranger.Network' is neither a network of this package nor one of dynamic"),
        (block("stranger"), "'stranger' is neither"),
        (block("torch.hub.load", repo_or_dir=".", model="pwn", source="local"), "'torch.hub.load' is neither"),
        (block("os._exit", status=0), "'os._exit' is neither"),
        (block("torch.nn.Sequential"), "'torch.nn.Sequential' is neither"),
        (block("nnunet_sfma.networks.cost.measure_cost"), "is neither"),
        (block("nnunet_sfma.networks.peers.library.monai_networks", wanted="x"), "is neither"),
        (block("dynamic_network_architectures.architectures.unet.torch.hub.load"), "is neither"),
        (block("dynamic_network_architectures.architectures.unet.Union"), "is neither"),
        (block("dynamic_network_architectures.architectures.unet.UNetDecoder"), "is neither"),
        (block("dynamic_network_architectures.architectures.none.PlainConvUNet"), "is neither"),
        (block(nonlin="stranger.Network"), "there is no nonlin 'stranger.Network'"),
        (block(conv_op="torch.hub.load"), "there is no conv_op 'torch.hub.load'"),
        (block(norm_op="torch.nn.functional.relu"), "there is no norm_op"),
        (block(norm_op="torch.nn.modules.conv.InstanceNorm2d"), "there is no norm_op"),
        (block(norm_op=7), "there is no norm_op 7"),
        (block(classes=["stranger"]), "names 'stranger', which is no argument"),
        (block(classes="conv_op"), "_kw_requires_import a list"),
        (block(n_stages=10**9), "n_stages cannot be 1000000000"),
        (block(norm_op_kwargs={"eps": float("inf")}), "norm_op_kwargs cannot be"),
        (block(strides=[[[[[[[1]]]]]]]), "strides cannot be"),
        (block(features_per_stage=[4] * 101), "features_per_stage cannot be"),
        (block(surprise=1), "surprise"),
        (block("nnunet_sfma.networks.sfmanet.model.SFMANet", surprise=1), "surprise"),
        ({**block(), "network_class_name": ["os"]}, "is neither"),
        ({**block(), "arch_kwargs": [1]}, "arch_kwargs is an object"),
    ],
)
def test_what_is_not_listed_is_not_built(stranger, architecture, sentence):
    with pytest.raises(UserError, match=f"^The plan's architecture block does not fit .*{sentence}"):
        build_network(architecture, 1, 2)
    assert not stranger.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "norm_op": "torch.nn.BatchNorm2d",
            "dropout_op": "torch.nn.modules.dropout.Dropout2d",
            "dropout_op_kwargs": {},
        },
    ],
)
def test_networks_of_nnunet_are_built(changes):
    assert type(build_network(block(**changes), 1, 2)).__name__ == "PlainConvUNet"


@pytest.mark.parametrize("module", ["unet", "residual_unet"], ids=["now", "in plans of older releases"])
def test_blocks_of_nnunets_networks_are_listed(module):
    architecture = block(f"{UNETS}.ResidualEncoderUNet", n_blocks_per_stage=[1, 1])
    architecture["network_class_name"] = f"dynamic_network_architectures.architectures.{module}.ResidualEncoderUNet"
    del architecture["arch_kwargs"]["n_conv_per_stage"]
    architecture["arch_kwargs"]["block"] = "dynamic_network_architectures.building_blocks.residual.BottleneckD"
    architecture["arch_kwargs"]["bottleneck_channels"] = [4, 4]
    architecture["_kw_requires_import"] = [*CLASSES, "block"]
    assert type(build_network(architecture, 1, 2)).__name__ == "ResidualEncoderUNet"


def test_networks_of_all_presets_are_listed():
    blocks = [load_preset(name).architecture for name in preset_names()]
    assert len(blocks) > 40
    for architecture in filter(None, blocks):
        check_architecture(fit_to_patch(architecture, [64, 64]))


def test_foreign_plans_of_nnunets_network_run_nothing(workspace, stranger):
    path = workspace.preprocessed / workspace.plain / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["nonlin"] = "stranger.Network"
    path.write_text(json.dumps(plans))
    before = set(path.parent.iterdir())
    with pytest.raises(UserError, match="there is no nonlin 'stranger.Network'"):
        main(["plan", "-d", "1", "--preset", "peer-nnunet"])
    assert not stranger.exists()
    assert set(path.parent.iterdir()) == before
