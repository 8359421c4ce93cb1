"""SAP against the MaxViT that timm builds, and the loading of published weights."""

import copy
import os
import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import BatchNormAct2d

from nnunet_sfma.networks.danie.self_attention import SelfAttentionalPerception

BACKBONE = "maxvit_tiny_tf_224"
WIDTHS = (32, 64, 96, 128)
DEPTHS = (1, 1, 2, 1)


def stream(input_channels: int = 3, image_size: tuple[int, int] = (64, 96)) -> SelfAttentionalPerception:
    return SelfAttentionalPerception(input_channels, image_size, BACKBONE, WIDTHS, DEPTHS)


def timm_model(**kwargs) -> torch.nn.Module:
    return timm.create_model(BACKBONE, **{"embed_dim": WIDTHS, "depths": DEPTHS, "stem_width": 32, **kwargs})


def in_timm(name: str) -> str:
    """The name that timm's features have for a tensor of ours: normalisation and activation are one module there."""
    return re.sub(r"(stem\.norm1|\.conv\.(?:pre_norm|norm1|norm2))\.0\.", r"\1.", name)


def in_file(name: str) -> str:
    """The name that a whole model of timm's has for it."""
    return in_timm(name).replace("stages_", "stages.")


def is_table(name: str) -> bool:
    return name.endswith("relative_position_bias_table")


def drawn(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Its state dict with other numbers everywhere."""
    state = model.state_dict()
    return {
        name: torch.rand_like(value) + 0.5 if value.is_floating_point() else torch.full_like(value, 7)
        for name, value in state.items()
    }


def whole_model(image_size: int | tuple[int, int] = 224, **kwargs) -> dict[str, torch.Tensor]:
    """The state dict of a classifier, with its head, as such files have it."""
    return drawn(timm_model(img_size=image_size, num_classes=10, **kwargs))


def saved(weights: dict, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)
    return path


def check_unchanged(sap: SelfAttentionalPerception, before: dict[str, torch.Tensor]) -> None:
    assert not [name for name, value in sap.state_dict().items() if not torch.equal(value, before[name])]


# the model


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_features_are_those_of_timm(training):
    sap = stream(2).train(training)
    plain = timm_model(in_chans=2, img_size=(64, 96), features_only=True, out_indices=(1, 2, 3, 4)).train(training)
    weights = {name: value / 10 if "conv" in name else value for name, value in drawn(plain).items()}
    plain.load_state_dict(weights)
    sap.maxvit.load_state_dict({name: weights[in_timm(name)] for name in sap.maxvit.state_dict()})
    x = torch.randn(2, 2, 64, 96)
    features = sap(x)
    assert [tuple(f.shape[1:]) for f in features] == [(32, 16, 24), (64, 8, 12), (96, 4, 6), (128, 2, 3)]
    for found, expected in zip(features, plain(x), strict=True):
        assert torch.equal(found, expected)
    after = plain.state_dict()
    assert {in_timm(name) for name in sap.maxvit.state_dict()} == after.keys()
    for name, value in sap.maxvit.state_dict().items():
        assert torch.equal(value, after[in_timm(name)]), name


def test_no_norm_is_an_activation_too():
    assert any(isinstance(module, BatchNormAct2d) for module in timm_model(features_only=True).modules())
    assert not [name for name, module in stream().named_modules() if isinstance(module, BatchNormAct2d)]


@pytest.mark.parametrize("image_size, window", [((256, 256), (8, 8)), ((320, 224), (10, 7)), ((64, 96), (2, 3))])
def test_windows_are_a_32nd_of_the_image(image_size, window):
    with torch.device("meta"):
        sap = stream(image_size=image_size)
    partitions = [module.partition_size for module in sap.modules() if hasattr(module, "partition_size")]
    assert partitions == [window] * 2 * sum(DEPTHS)
    shapes = {tuple(p.shape[1:]) for name, p in sap.named_parameters() if is_table(name)}
    assert shapes == {(2 * window[0] - 1, 2 * window[1] - 1)}


@pytest.mark.parametrize(
    "changes, rule",
    [
        ({"backbone": "maxvit_base_tf_224"}, "maxvit_tiny_tf_224 or maxvit_small_tf_224, got 'maxvit_base_tf_224'"),
        ({"features_per_stage": (32, 64, 96)}, r"four multiples .* got \(32, 64, 96\)"),
        ({"features_per_stage": (32, 48, 96, 128)}, r"multiples of 32, got \(32, 48, 96, 128\)"),
        ({"depths": (1, 1, 1)}, r"four whole numbers .* got \(1, 1, 1\)"),
        ({"depths": (1, 0, 1, 1)}, r"from 1 on, got \(1, 0, 1, 1\)"),
    ],
)
def test_refused_models(changes, rule):
    arguments = {"backbone": BACKBONE, "features_per_stage": WIDTHS, "depths": DEPTHS, **changes}
    with pytest.raises(ValueError, match=rule):
        SelfAttentionalPerception(3, (64, 96), **arguments)


# published weights


@pytest.mark.parametrize(
    "image_size, file",
    [((224, 224), "x.safetensors"), ((224, 224), "x.pth"), ((256, 256), "x.safetensors"), ((64, 96), "x.pth")],
)
def test_every_tensor_arrives(tmp_path, image_size, file):
    weights, sap = whole_model(), stream(image_size=image_size)
    sap.load_pretrained(saved(weights, tmp_path / file))
    state = sap.maxvit.state_dict()
    assert {in_file(name) for name in state} == {name for name in weights if not name.startswith(("head.", "norm."))}
    tables = [name for name in state if is_table(name)]
    assert len(tables) == 2 * sum(DEPTHS)
    for name, value in state.items():
        if image_size == (224, 224) or name not in tables:
            assert torch.equal(value, weights[in_file(name)]), name


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_wrapped_state_dicts_are_unwrapped(tmp_path, key):
    weights, sap = whole_model(64), stream(image_size=(64, 64))
    sap.load_pretrained(saved({key: weights, "epoch": 3}, tmp_path / "weights.pth"))
    for name, value in sap.maxvit.state_dict().items():
        assert torch.equal(value, weights[in_file(name)]), name


@pytest.mark.parametrize("image_size, shape", [((256, 256), (15, 15)), ((64, 96), (3, 5)), ((320, 224), (19, 13))])
def test_tables_are_interpolated(tmp_path, image_size, shape):
    # Each table rises along its rows and falls along its columns, at a height of its own, so that order shows.
    weights, sap = whole_model(), stream(image_size=image_size)
    offsets = torch.arange(-6.0, 7.0)
    for name in filter(is_table, weights):
        heights = 10 * torch.arange(len(weights[name])).view(-1, 1, 1) + weights[name][0, 0, 0]
        weights[name] = heights + offsets.view(-1, 1) - 3 * offsets
    sap.load_pretrained(saved(weights, tmp_path / "weights.safetensors"))
    for name in filter(is_table, sap.maxvit.state_dict()):
        table, given = sap.maxvit.state_dict()[name], weights[in_file(name)]
        assert table.shape == (len(given), *shape)
        torch.testing.assert_close(table[:, shape[0] // 2, shape[1] // 2], given[:, 6, 6])
        rises, falls = table.diff(dim=1), table.diff(dim=2)
        assert (rises > 0).all() and (falls < 0).all()
        torch.testing.assert_close(rises, rises[:, :, :1].expand_as(rises), rtol=0, atol=1e-4)
        torch.testing.assert_close(falls, falls[:, :1].expand_as(falls), rtol=0, atol=1e-4)


@pytest.mark.parametrize("image_size", [(256, 256), (64, 96)])
def test_constant_tables_stay_constant(tmp_path, image_size):
    weights, sap = whole_model(), stream(image_size=image_size)
    for i, name in enumerate(filter(is_table, weights)):
        weights[name] = torch.full_like(weights[name], i + 0.5)
    sap.load_pretrained(saved(weights, tmp_path / "weights.safetensors"))
    for name in filter(is_table, sap.maxvit.state_dict()):
        table = sap.maxvit.state_dict()[name]
        torch.testing.assert_close(table, weights[in_file(name)][0, 0, 0].expand_as(table))


@pytest.mark.parametrize("channels, colours", [(1, None), (2, [0, 1]), (4, [0, 1, 2, 0]), (7, [0, 1, 2, 0, 1, 2, 0])])
def test_the_first_convolution_is_adapted_to_the_channels(tmp_path, channels, colours):
    # One channel takes the sum over the colours; others repeat them, weighed so that the sum keeps its size.
    weights, sap = whole_model(64), stream(channels, image_size=(64, 64))
    sap.load_pretrained(saved(weights, tmp_path / "weights.safetensors"))
    stem = weights["stem.conv1.weight"]
    expected = stem[:, :1] + stem[:, 1:2] + stem[:, 2:] if colours is None else stem[:, colours] * 3 / channels
    torch.testing.assert_close(sap.maxvit.state_dict()["stem.conv1.weight"], expected)
    for name, value in sap.maxvit.state_dict().items():
        assert name == "stem.conv1.weight" or torch.equal(value, weights[in_file(name)]), name


def test_loading_keeps_the_parameters_that_an_optimiser_holds(tmp_path):
    sap = stream(image_size=(64, 64))
    before = dict(sap.named_parameters())
    sap.load_pretrained(saved(whole_model(64), tmp_path / "weights.pth"))
    assert all(p is before[name] and p.requires_grad for name, p in sap.named_parameters())


def check_refused(path: Path, error: type[Exception], match: str | None = None) -> None:
    sap = stream(image_size=(64, 64))
    before = copy.deepcopy(sap.state_dict())
    with pytest.raises(error, match=match):
        sap.load_pretrained(path)
    check_unchanged(sap, before)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"embed_dim": (32, 64, 96, 160)}, r"its stages\.3\..* \(160, 96, 1, 1\), .* \(128, 96, 1, 1\)"),
        ({"embed_dim": (32, 64, 128, 128)}, r"its stages\.2\.blocks\.0\..* has the shape"),
        ({"stem_width": 64}, r"its stem\.conv1\.weight has the shape \(64, 3, 3, 3\), .* \(32, 3, 3, 3\)"),
        ({"in_chans": 1}, r"its stem\.conv1\.weight has the shape \(32, 1, 3, 3\), .* \(32, 3, 3, 3\)"),
        ({"depths": (1, 1, 1, 1)}, r"it has no stages\.2\.blocks\.1\."),
        ({"depths": (1, 2, 2, 1)}, r"it has stages\.1\.blocks\.1\."),
    ],
    ids=["width", "another width", "stem", "channels", "shallower", "deeper"],
)
def test_another_model_is_refused(tmp_path, kwargs, message):
    weights = whole_model(64, **kwargs)
    check_refused(saved(weights, tmp_path / "weights.safetensors"), ValueError, message)


@pytest.mark.parametrize(
    "missing",
    [
        "stem.conv1.weight",
        "stages.1.blocks.0.conv.norm2.running_var",
        "stages.2.blocks.1.attn_grid.attn.rel_pos.relative_position_bias_table",
        "stages.3.blocks.0.attn_block.mlp.fc2.bias",
    ],
)
def test_a_missing_tensor_is_refused(tmp_path, missing):
    weights = whole_model(64)
    stored = weights.pop(missing)
    # What timm does: it loads the rest and leaves this tensor at random, without a word.
    lenient = timm_model(
        img_size=64, features_only=True, pretrained=True, pretrained_cfg_overlay={"state_dict": weights}
    )
    state = {name.replace("stages_", "stages."): value for name, value in lenient.state_dict().items()}
    assert torch.equal(state["stem.conv2.weight"], weights["stem.conv2.weight"])
    assert not torch.equal(state[missing], stored)
    check_refused(saved(weights, tmp_path / "weights.pth"), ValueError, f"it has no {re.escape(missing)}")


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.pth"])
@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, -1], ids=["empty", "one byte", "100 bytes", "half", "all but one"])
def test_truncated_files_are_refused(tmp_path, file, kept):
    path = saved(whole_model(64), tmp_path / file)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    check_refused(path, ValueError, "it is no state dict")


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.pth", "weights"])
def test_garbage_is_refused(tmp_path, file):
    path = tmp_path / file
    path.write_bytes(bytes(range(256)) * 20)
    check_refused(path, ValueError, "it is no state dict")


@pytest.mark.parametrize("content", [[1, 2], None, {1: torch.zeros(1)}, {"state_dict": [1]}], ids=repr)
def test_what_is_no_dictionary_of_tensors_is_refused(tmp_path, content):
    check_refused(saved(content, tmp_path / "weights.pth"), ValueError, "it is no")


def test_table_that_cannot_be_interpolated_is_refused(tmp_path):
    weights = whole_model(64)
    name = next(name for name in weights if name.endswith("relative_position_bias_table"))
    weights[name] = weights[name][:, :0]
    check_refused(saved(weights, tmp_path / "weights.pth"), ValueError, "timm cannot adapt it")


def test_buffers_that_this_release_of_timm_does_not_store_are_left_out(tmp_path):
    weights, sap = whole_model(64), stream(image_size=(64, 64))
    weights["stages.0.blocks.0.attn_grid.attn.rel_pos.height_lookup"] = torch.zeros(3)
    sap.load_pretrained(saved(weights, tmp_path / "weights.safetensors"))
    assert torch.equal(sap.maxvit.state_dict()["stem.conv2.weight"], weights["stem.conv2.weight"])


def test_counters_of_batch_normalisation_may_be_missing(tmp_path):
    weights, sap = whole_model(64), stream(image_size=(64, 64))
    without = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    assert len(without) < len(weights)
    sap.load_pretrained(saved(without, tmp_path / "weights.safetensors"))
    assert torch.equal(sap.maxvit.state_dict()["stem.conv2.weight"], weights["stem.conv2.weight"])


def test_an_entry_that_is_no_tensor_is_refused(tmp_path):
    weights = {**whole_model(64), "stem.conv1.bias": [0.0] * 32}
    check_refused(saved(weights, tmp_path / "weights.pth"), ValueError, r"it has no stem\.conv1\.bias")


class Dangerous:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("key", ["stem.conv1.bias", "extra"])
def test_pickled_objects_are_refused_and_not_made(tmp_path, key):
    weights = {**whole_model(64), key: Dangerous(tmp_path / "made")}
    check_refused(saved(weights, tmp_path / "weights.pth"), ValueError, "it is no state dict")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.pth", ""], ids=["safetensors", "pth", "a folder"])
def test_missing_files_are_an_oserror(tmp_path, file):
    check_refused(tmp_path / file, OSError)
