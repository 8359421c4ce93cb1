"""Figures of what trained networks attend to, and the maps in them."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from PIL import Image
from torch import nn

from nnunet_sfma.errors import UserError
from nnunet_sfma.explaining import danie_figures, danie_maps, sfmanet_figures, sfmanet_maps
from nnunet_sfma.explaining.case import Volume
from nnunet_sfma.explaining.collecting import Calls, collect
from nnunet_sfma.explaining.danie_probes import attention_probes
from nnunet_sfma.explaining.explain import explain
from nnunet_sfma.explaining.grad_cam import Question, class_activation
from nnunet_sfma.explaining.patch import choose_slice, cut_patch
from nnunet_sfma.explaining.target_class import find_class
from nnunet_sfma.explaining.trained_model import load_predictor, network_of
from nnunet_sfma.presets import load_preset
from nnunet_sfma.trainers.complete_plans import build_network
from tests.conftest import Workspace
from tests.explaining.conftest import model_folder
from tests.trainers.conftest import TRAINERS

SFMANET, DANIE = TRAINERS
COLLECTED = {SFMANET: sfmanet_maps.COLLECTED, DANIE: danie_maps.COLLECTED}
TITLES = {
    SFMANET: [
        "SGU: gate and spatial attention",
        "FGU: channel weights",
        "DMAU: strip attention, and the skip before and after it",
        "IEM: axial attention of one pixel",
    ],
    DANIE: ["HAP: attention to positions", "HAP and ES: attention to channels", "JP: context and joint feature"],
}
HAP_ROWS = ("HAP s (max)", "HAP s (average)", "HAP A_d")
LOCAL_ROWS = ("local spatial", "local channel")
GRAD_CAM_TITLES = {
    SFMANET: "Grad-CAM of SFMANet's units",
    DANIE: "Grad-CAM of local and global, spatial and channel attention",
}


def explain_case(preset: str, case: str, output: Path | None, **options) -> list[Path]:
    arguments = {"fold": 0, "configuration": "2d", **options}
    return explain(1, TRAINERS[preset], preset, case=case, output=output, **arguments)


def figures_in(folder: Path) -> list[dict]:
    return json.loads((folder / "explain.json").read_text())["figures"]


def label_of(workspace: Workspace, case: str) -> np.ndarray:
    path = workspace.raw / workspace.plain / "labelsTr" / f"{case}.nii.gz"
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def network_for(workspace: Workspace, preset: str) -> nn.Module:
    return network_of(load_predictor(model_folder(workspace, preset), 0, "checkpoint_final.pth", "cpu"))


def narrow_network(preset: str) -> nn.Module:
    """The preset's network, narrow and with the same weights every time."""
    settings = {"features_per_stage": [16] * 5}
    if preset.startswith("danie"):
        settings = {"features_per_stage": [32] * 4, "depths": [1] * 4, "blocks_per_stage": 1, "image_size": [64, 64]}
    architecture = load_preset(preset).architecture
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_network({**architecture, "arch_kwargs": {**architecture["arch_kwargs"], **settings}}, 1, 2)
    return network.eval()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def run(network: nn.Module, preset: str) -> Calls:
    with torch.no_grad(), collect(network, COLLECTED[preset]) as calls:
        network(noise(1, 1, 64, 64))
    return calls


@pytest.fixture
def without_grad_cam(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the library were not installed."""
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)


@pytest.mark.parametrize("preset", TRAINERS)
def test_figures_and_their_list(models, tmp_path, preset):
    pytest.importorskip("pytorch_grad_cam")
    paths = explain_case(preset, "case_0", tmp_path)
    figures = figures_in(tmp_path)
    assert [figure["title"] for figure in figures] == [*TITLES[preset], GRAD_CAM_TITLES[preset]]
    assert sorted(paths) == sorted(tmp_path.iterdir())
    assert {path.name for path in paths} == {figure["file"] for figure in figures} | {"explain.json"}
    largest = int((label_of(models, "case_0") == 1).sum((1, 2)).argmax())
    for figure in figures:
        assert figure.keys() == {"file", "case", "slice", "title", "caption", "network"}
        assert (figure["case"], figure["slice"]) == ("case_0", largest)
        assert figure["network"] == ("SFMANet" if preset == SFMANET else "DANIE")
        assert "Class lesion, fold 0." in figure["caption"]
        picture = tmp_path / figure["file"]
        assert picture.stat().st_size < 150_000
        assert len(np.unique(np.asarray(Image.open(picture).convert("RGB")).reshape(-1, 3), axis=0)) > 50


def test_without_grad_cam(models, capsys, without_grad_cam):
    """And into the default folder."""
    explain_case(SFMANET, "case_0", None, slice_index=0)
    figures = figures_in(model_folder(models, SFMANET) / "evaluation" / "explain")
    assert [(figure["title"], figure["slice"]) for figure in figures] == [(title, 0) for title in TITLES[SFMANET]]
    assert "pip install 'nnunet-sfma[explain]'" in capsys.readouterr().out


def test_a_case_without_label_is_predicted(models, tmp_path, without_grad_cam):
    raw = models.raw / models.plain
    images = raw / "imagesTs"
    images.mkdir()
    shutil.copy(raw / "imagesTr" / "case_2_0000.nii.gz", images / "new_case_0000.nii.gz")
    try:
        explain_case(SFMANET, "new_case", tmp_path)
    except UserError as error:  # as little training may predict nothing
        assert "give a slice with -s" in str(error)
        explain_case(SFMANET, "new_case", tmp_path, slice_index=2)
    finally:
        shutil.rmtree(images)
    assert len(figures_in(tmp_path)) == 4


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"case": "case_9"}, "There is no case 'case_9' in imagesTr or imagesTs"),
        ({"fold": 1}, "fold_1/checkpoint_final.pth does not exist"),
        ({"checkpoint": "checkpoint_none.pth"}, "checkpoint_none.pth does not exist"),
        ({"configuration": "3d_fullres"}, "There is no trained model"),
        ({"slice_index": 5}, "Slice 5 is out of range: the image holds something in slices 0 to 4"),
        ({"slice_index": -1}, "Slice -1 is out of range"),
        ({"class_name": "tumour"}, "no class 'tumour': it has lesion"),
    ],
)
def test_what_is_not_there(models, tmp_path, options, sentence):
    with pytest.raises(UserError, match=sentence):
        explain_case(SFMANET, **{"case": "case_0", "output": tmp_path / "figures", **options})
    assert not (tmp_path / "figures").exists()


def test_no_folder_to_write_to(models, tmp_path, without_grad_cam):
    (tmp_path / "file").write_text("in the way of a folder")
    with pytest.raises(UserError, match="Cannot write to"):
        explain_case(SFMANET, "case_0", tmp_path / "file")


def test_a_network_of_nnunets_own(models, tmp_path, monkeypatch):
    """Two channels, regions and an ignore label, besides."""
    pytest.importorskip("pytorch_grad_cam")
    from nnunetv2.run.run_training import get_trainer_from_args

    trainer = get_trainer_from_args("2", "2d", 0, "nnUNetTrainer", "nnUNetPlans", device=torch.device("cpu"))
    trainer.initialize()
    model = Path(trainer.output_folder_base)
    (model / "plans.json").write_text(json.dumps(trainer.plans_manager.plans))
    (model / "dataset.json").write_text(json.dumps(trainer.dataset_json))
    trainer.save_checkpoint(str(model / "fold_0" / "checkpoint_final.pth"))

    def explain_region(name: str) -> list[Path]:
        return explain(2, "nnUNetTrainer", "nnUNetPlans", "2d", 0, "case_0", None, name, tmp_path)

    explain_region("core")
    (figure,) = figures_in(tmp_path)
    assert figure["title"] == "Grad-CAM of encoder and decoder"
    assert figure["network"] == "PlainConvUNet" and "Class core" in figure["caption"]
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(UserError, match="has no maps of its own, only Grad-CAM"):
        explain_region("core")


def test_the_output_that_belongs_to_a_class():
    labels = LabelManager({"background": 0, "b": 2, "a": 1}, None)
    assert (find_class(labels, None).name, find_class(labels, None).channel) == ("b", 2)
    regions = LabelManager({"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}, [1, 2])
    whole, core = find_class(regions, None), find_class(regions, "core")
    assert (whole.channel, whole.labels, core.channel, core.labels) == (0, (1, 2), 1, (2,))
    with pytest.raises(UserError, match="whole, core"):
        find_class(regions, "ignore")


@pytest.mark.parametrize("preset", TRAINERS)
def test_the_patch_lies_around_the_class(models, preset):
    predictor = load_predictor(model_folder(models, preset), 0, "checkpoint_final.pth", "cpu")
    target = find_class(predictor.label_manager, None)
    label = np.zeros((2, 150, 130), np.int8)
    label[1, 120:140, 60:70] = 1
    volume = Volume(noise(1, 2, 150, 130).numpy(), label, 7, 1.0)
    index, mask = choose_slice(volume, target, None, predictor)
    patch = cut_patch(volume, index, mask, predictor)
    height, width = predictor.configuration_manager.patch_size
    assert index == 1 and choose_slice(volume, target, 7, predictor)[0] == 0
    assert patch.label.sum() == 200
    assert (patch.inside[0].stop, patch.inside[1].stop) == (height, width)
    left = 65 - width // 2
    cut = volume.image[0, 1, 150 - height :, left : left + width]
    assert np.array_equal(patch.image[0, 0].numpy()[patch.inside], cut)
    small = cut_patch(Volume(volume.image[:, :, :20, :20], label[:, :20, :20], 0, 1.0), 0, None, predictor)
    assert small.image.shape == patch.image.shape
    assert np.array_equal(small.image[0, 0].numpy()[small.inside], volume.image[0, 0, :20, :20])
    assert small.image.count_nonzero() == 400


@pytest.mark.parametrize("preset", TRAINERS)
def test_collecting_changes_nothing(models, preset):
    network, image = network_for(models, preset), noise(1, 1, 48, 40)
    with torch.no_grad():
        before = network(image)
        with collect(network, COLLECTED[preset]) as calls:
            during = network(image)
        kept = sum(map(len, calls.values()))
        after = network(image)
    assert torch.equal(before, during) and torch.equal(before, after)
    assert kept > 0 and sum(map(len, calls.values())) == kept
    with pytest.raises(RuntimeError), collect(network, COLLECTED[preset]):
        raise RuntimeError
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    "preset, rows, grad_cam_rows, sentence",
    [
        ("danie-a2-no-self-attention", [*HAP_ROWS, "HAP c", "JP j"], [*LOCAL_ROWS, "joined"], "without self-attention"),
        (
            "danie-b1-spatial-channel",
            [*HAP_ROWS, "HAP c", "JP j"],
            [*LOCAL_ROWS, "global spatial", "joined"],
            "the local channel attention follows the other",
        ),
        ("sfmanet-ablation-sfgu", ["SGU gate W1", "SGU attention A", "FGU weight W"], ["SGU", "FGU"], "what each unit"),
        ("sfmanet-ablation-iem", ["IEM attention"], ["IEM"], "what each unit"),
    ],
)
def test_figures_of_ablations(preset, rows, grad_cam_rows, sentence):
    pytest.importorskip("pytorch_grad_cam")
    network, is_danie = narrow_network(preset), preset.startswith("danie")
    own_maps, figures = (danie_maps, danie_figures) if is_danie else (sfmanet_maps, sfmanet_figures)
    image = noise(1, 1, 64, 64)
    pixel = () if is_danie else ((30, 30),)
    with torch.no_grad(), collect(network, own_maps.COLLECTED) as calls:
        network(image)
        drawn = figures.attention_figures(network, calls, *pixel)
    assert [row for figure in drawn for row in figure.rows] == rows
    figure = figures.grad_cam_figure(network, Question(image, 1, np.ones((64, 64), bool), "predicted"))
    assert [
        row.partition("\n")[0].removesuffix(" output").removesuffix(" (JP)") for row in figure.rows
    ] == grad_cam_rows
    assert sentence in figure.caption


def test_grad_cam_leaves_the_network_as_it_was(models):
    pytest.importorskip("pytorch_grad_cam")
    network, image = network_for(models, DANIE), noise(1, 1, 64, 64)
    before = {name: set(vars(module)) for name, module in network.named_modules()}
    with torch.no_grad():
        logits = network(image)
    mask = np.zeros((64, 64), bool)
    mask[20:40, 20:40] = True
    figure = danie_figures.grad_cam_figure(network, Question(image, 1, mask, "predicted"))
    assert list(figure.rows) == [
        "local spatial\n(HAP)",
        "local channel\n(HAP)",
        "global spatial\n(SAP)",
        "global channel\n(ES)",
        "joined (JP)",
    ]
    assert "the local spatial attention follows the other" in figure.caption
    assert all(0 <= panel.values.min() <= panel.values.max() <= 1 for row in figure.rows.values() for panel in row)
    assert {name: set(vars(module)) for name, module in network.named_modules()} == before
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    with torch.no_grad():
        assert torch.equal(network(image), logits)


def test_grad_cam_of_the_local_attention():
    """The probes' maps are those of the products of equations 2 and 3 themselves."""
    pytest.importorskip("pytorch_grad_cam")
    network, image = narrow_network(DANIE), noise(1, 1, 64, 64)
    mask = np.zeros((64, 64), bool)
    mask[20:40, 20:40] = True
    block = network.hap.stages[0][-1]
    with attention_probes(block) as probes:
        panel = class_activation(network, Question(image, 1, mask, "predicted"), probes.channel)
        kept: list[torch.Tensor] = []
        for probe in probes.channel:
            probe.register_forward_hook(lambda _, __, output: kept.append(output))
        with collect(network, COLLECTED[DANIE]) as calls:
            logits = network(image)
    gradients = torch.autograd.grad(logits[0, 1][torch.from_numpy(mask)].sum(), kept)
    received = calls["hap.stages.0.0.mlp"][0].received
    weights = danie_maps.channel_attention(calls, "hap.stages.0.0")
    assert torch.allclose(kept[0].amax((2, 3)), weights.maximum * received[..., 0, 0], atol=1e-5)
    expected = []
    for feature, gradient in zip(kept, gradients, strict=True):
        cam = (gradient.mean((2, 3), keepdim=True) * feature).sum(1).relu()
        expected.append((cam - cam.min()) / (cam.max() - cam.min() + 1e-7))
    # averaged in the middle of the 16 x 16 positions: the library enlarges the map to the image
    small = panel.values.view(16, 4, 16, 4)[:, 1:3, :, 1:3].mean((1, 3))
    assert np.corrcoef(small.flatten(), torch.stack(expected).mean(0).detach().flatten())[0, 1] > 0.98


def test_sfmanet_gates(models):
    network = network_for(models, SFMANET)
    calls = run(network, SFMANET)
    unit = network.skips[0].sgu
    gate, attention = sfmanet_maps.informative_gate(calls, 0), sfmanet_maps.spatial_attention(calls, 0)
    for values in (gate, attention):
        assert values.shape == (64, 64) and 0 <= values.min() < values.max() <= 1
    (call,) = calls["skips.0.sgu"]
    w1, w2 = unit.gate(torch.sigmoid(unit.correlation_weights()[:, None, None] * unit.norm(call.received)))
    half = call.received.shape[1] // 2
    crossed = (w1[:, :half] * call.received[:, :half] + w2[:, half:] * call.received[:, half:]) * attention
    assert torch.allclose(crossed, call.returned[:, :half], atol=1e-6)
    assert torch.allclose(gate, w1[0].mean(0))


def test_sfmanet_frequency_weights(models):
    network = network_for(models, SFMANET)
    unit = network.skips[0].fgu
    calls = run(network, SFMANET)
    weights = sfmanet_maps.frequency_weights(calls, 0)
    assert weights.mean().item() == pytest.approx(1, abs=1e-5) and weights.min() > 0
    (call,) = calls["skips.0.fgu"]
    with torch.no_grad():
        high, low = call.received.split(unit.split, dim=1)
        high, low = unit.permute_high(unit.squeeze_high(high)), unit.permute_low(unit.squeeze_low(low))
        y1 = unit.group_conv(high) + unit.point_conv_high(high)
        y2 = torch.cat([unit.point_conv_low(low), low], 1)
    first, second = (w.view(1, -1, 1, 1) * y for w, y in zip(weights, (y1, y2), strict=True))
    assert torch.allclose(unit.permute_first(first) + unit.permute_second(second), call.returned, atol=1e-5)


def test_sfmanet_dual_axis(models):
    network = network_for(models, SFMANET)
    calls = run(network, SFMANET)
    mixed, unit = calls["skips.0.dmau.mix"][0].returned, calls["skips.0.dmau"][0]
    assert torch.allclose(mixed * unit.received, unit.returned, atol=1e-6)
    assert torch.allclose(sfmanet_maps.strip_attention(calls, 0), mixed[0].abs().mean(0))
    before, after = sfmanet_maps.skip_magnitudes(calls, 0)
    assert torch.allclose(before, unit.received[0].abs().mean(0))
    assert torch.allclose(after, unit.returned[0].abs().mean(0))


def test_sfmanet_axial_attention(models):
    """The weights gather at the pixel what the two attentions return there."""
    network = network_for(models, SFMANET)
    iem, pixel = network.encoder.iem[0], (11, 37)
    column, row = iem.column_attention, iem.row_attention
    with torch.no_grad():
        for attention in (column, row):
            attention.query.weight *= 100  # hardly trained, all positions would be alike
        calls = run(network, SFMANET)
        weights = sfmanet_maps.axial_attention(column, row, calls, 0, pixel)
        assert weights.shape == (64, 64) and weights.min() >= 0
        assert weights.sum().item() == pytest.approx(1, abs=1e-5)
        values = column.value(calls["encoder.iem.0.column_attention"][0].received)
        gathered = row.value((weights * values).sum((2, 3), keepdim=True))[0, :, 0, 0]
    returned = calls["encoder.iem.0.row_attention"][0].returned[0, :, pixel[0], pixel[1]]
    assert torch.allclose(gathered, returned, atol=1e-5)


def test_danie_local_attention():
    """A_d comes from the weights of channels and positions, equations 2 to 5."""
    network = narrow_network(DANIE)
    received = []
    block, norm = network.hap.stages[1][-1], network.hap.entries[1][1]
    with torch.no_grad():
        norm.weight *= 1000  # untrained, features are next to nothing
    handle = block.register_forward_pre_hook(lambda _, inputs: received.append(inputs[0]))
    calls = run(network, DANIE)
    handle.remove()
    channels = danie_maps.channel_attention(calls, "hap.stages.1.0")
    positions = danie_maps.position_attention(calls, "hap.stages.1.0")
    calibrated = danie_maps.calibrated_attention(calls, "hap.stages.1.0")
    for values in (*channels, *positions, calibrated):
        assert 0 <= values.min() < values.max() <= 1
    assert not torch.allclose(*positions, atol=0.01) and not torch.allclose(*channels, atol=0.01)
    both = [s * c.view(1, -1, 1, 1) * received[0] for s, c in zip(positions, channels, strict=True)]
    with torch.no_grad():
        expected = torch.sigmoid(block.calibrate(block.omega_max * both[0] + block.omega_avg * both[1]))
    assert torch.allclose(calibrated, expected[0, 0], atol=1e-6)


@pytest.mark.parametrize("stage", range(4))
def test_danie_joint_preservation(models, stage):
    network = network_for(models, DANIE)
    fusion = network.joint_preservation.fusions[stage]
    received = []
    handle = fusion.eh.register_forward_pre_hook(lambda _, inputs: received.append(inputs[0]))
    calls = run(network, DANIE)
    handle.remove()
    context = danie_maps.context_attention(calls, stage)
    assert context.min() >= 0 and context.sum().item() == pytest.approx(1, abs=1e-5)
    with torch.no_grad():
        of_channels = torch.sigmoid(fusion.eh.integrate((received[0] * context).sum((2, 3))))
        assert torch.allclose(of_channels[:, :, None, None] * received[0], fusion.eh(received[0]), atol=1e-6)
        matrix = danie_maps.channel_matrix(fusion.es, calls, stage)
        (call,) = calls[f"joint_preservation.fusions.{stage}.es"]
        assert torch.allclose(matrix.sum(1), torch.ones(32), atol=1e-5)
        mixed = fusion.es.gain * (matrix @ call.received.flatten(2)).view_as(call.received) + call.received
        assert torch.allclose(mixed, call.returned, atol=1e-5)
    joint = danie_maps.joint_feature(calls, stage)
    assert joint.shape == received[0].shape[2:] and joint.min() >= 0
