"""``nnunet-sfma plan`` estimates memory and sizes the batch by it."""

import json
import re

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from nnunet_sfma.cli import main
from nnunet_sfma.networks.accelerate import accelerate
from nnunet_sfma.planning.memory import GB, MemoryEstimate, estimate_memory, kept_bytes, on_fake_gpu
from nnunet_sfma.presets import load_preset
from nnunet_sfma.trainers.complete_plans import build_network, fit_to_patch


@pytest.fixture
def read_estimate(workspace):
    """``read_estimate(name)``: the 2d configuration of plans and the estimate for them."""
    folder = workspace.preprocessed / workspace.plain

    def read(name: str) -> tuple[dict, MemoryEstimate]:
        plans = json.loads((folder / f"{name}.json").read_text())
        dataset_json = json.loads((folder / "dataset.json").read_text())
        return plans["configurations"]["2d"], estimate_memory(plans, "2d", dataset_json)

    return read


@pytest.fixture
def many_cases(workspace):
    """Data set 1 says that it has 600 cases, of 5 slices each."""
    path = workspace.preprocessed / workspace.plain / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "numTraining": 600}))


def test_what_is_kept_is_counted_once_and_without_parameters():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1)).to("meta")
    pixels = 2 * 8 * 16
    # the image, the features after the ReLU, which it and the next layer keep, and three times the output
    with on_fake_gpu(network):
        assert kept_bytes(network, (2, 3, 8, 16)) == 4 * pixels * (3 + 4 + 3 * 2)


def test_half_precision_keeps_half(workspace, read_estimate):
    for precision in ("auto", "fp16", "fp32"):
        setting = f"training.precision={precision}"
        main(["plan", "-d", "1", "--preset", "danie-narrow", "--name", precision, "--set", setting])
    auto, half, single = (read_estimate(precision)[1] for precision in ("auto", "fp16", "fp32"))
    assert auto == half
    assert 0.4 * single.bytes_per_image < half.bytes_per_image < 0.7 * single.bytes_per_image


def test_plain_units_keep_more_and_checkpointing_keeps_less(workspace, read_estimate):
    for name in ("accelerate=true", "accelerate=false", "activation_checkpointing=true"):
        main(["plan", "-d", "1", "--preset", "sfmanet-narrow", "--name", name, "--set", f"training.{name}"])
    fast, plain, checkpointed = (
        read_estimate(name)[1].bytes_per_image
        for name in ("accelerate=true", "accelerate=false", "activation_checkpointing=true")
    )
    assert checkpointed < 0.8 * fast < 0.8 * plain


@pytest.mark.parametrize("preset", ["sfmanet-narrow", "danie-narrow"])
def test_as_much_is_kept_as_with_real_tensors(preset):
    network = accelerate(build_network(fit_to_patch(load_preset(preset).architecture, [64, 64]), 1, 2)).train()
    storages = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(torch.zeros(2, 1, 64, 64))
    for owned in (*network.parameters(), *network.buffers()):
        storages.pop(owned.untyped_storage().data_ptr(), None)
    real = sum(storage.nbytes() for storage in storages.values()) + 3 * output.nbytes
    with on_fake_gpu(network):
        estimated = kept_bytes(network, (2, 1, 64, 64))
    if preset.startswith("sfmanet"):  # a CPU computes its attention and its gates again instead of keeping them
        assert real < estimated < 1.6 * real
    else:
        assert estimated == pytest.approx(real, rel=0.03)  # the kernels of attention keep other sums


def test_optimizers_keep_what_they_keep(workspace, read_estimate):
    amsgrad = 'training.optimizer_kwargs={"amsgrad":true}'
    fixed = {}
    for name, setting in (("sgd", "training.optimizer=SGD"), ("adam", "training.num_epochs=9"), ("amsgrad", amsgrad)):
        main(["plan", "-d", "1", "--preset", "sfmanet-narrow", "--name", name, "--set", setting])
        fixed[name] = read_estimate(name)[1].fixed_bytes
    architecture = load_preset("sfmanet-narrow").architecture
    weights = sum(parameter.nbytes for parameter in build_network(architecture, 1, 2).parameters())
    assert fixed["adam"] - fixed["sgd"] == fixed["amsgrad"] - fixed["adam"] == weights
    assert 3 * weights + GB < fixed["sgd"] < 5 * weights + GB  # float16 and merged weights are kept as well


def test_estimate_is_printed_for_the_batch_of_the_preset(workspace, read_estimate, capsys):
    main(["plan", "-d", "1", "--preset", "sfmanet-atlas"])
    printed = capsys.readouterr().out
    found = re.search(r"Estimated training memory: (.*) GB for a batch of 16 patches of 256 x 256 \(float16", printed)
    assert float(found.group(1)) == pytest.approx(read_estimate("sfmanet-atlas")[1].of_batch(16) / GB, abs=0.05)
    assert 6 < float(found.group(1)) < 12  # 7.2 counted with the optimiser's state


def test_batch_is_the_largest_that_fits(workspace, many_cases, read_estimate, capsys):
    main(["plan", "-d", "1", "--preset", "danie-s-acdc", "--gpu-memory", "8"])
    configuration, estimate = read_estimate("danie-s-acdc")
    batch_size = configuration["batch_size"]
    assert 2 < batch_size < 150 and batch_size != load_preset("danie-s-acdc").configuration["batch_size"]
    assert estimate.of_batch(batch_size) <= 8 * GB < estimate.of_batch(batch_size + 1)
    printed = capsys.readouterr().out
    assert f"for a batch of {batch_size} patches" in printed and "own limit" not in printed


@pytest.mark.parametrize("cases, slices, limit", [(600, 3000, 150), (6, 30, 2)])
def test_batch_is_at_most_a_twentieth_of_the_slices(workspace, cases, slices, limit, request, read_estimate, capsys):
    if cases == 600:
        request.getfixturevalue("many_cases")
    main(["plan", "-d", "1", "--preset", "sfmanet-narrow", "--gpu-memory", "80"])
    assert read_estimate("sfmanet-narrow")[0]["batch_size"] == limit
    assert (
        f"5 % of the data set's {slices} slices but at least 2, keeps the batch at {limit};" in capsys.readouterr().out
    )


def test_two_images_are_the_least(workspace, read_estimate):
    main(["plan", "-d", "1", "--preset", "danie-l-acdc"])
    needed = read_estimate("danie-l-acdc")[1].of_batch(2) / GB
    main(["plan", "-d", "1", "--preset", "danie-l-acdc", "--name", "two", "--gpu-memory", str(needed + 0.01)])
    assert read_estimate("two")[0]["batch_size"] == 2
    with pytest.raises(SystemExit, match=f"needs an estimated {needed:.1f} GB, which is more than --gpu-memory"):
        main(["plan", "-d", "1", "--preset", "danie-l-acdc", "--name", "one", "--gpu-memory", str(needed - 0.01)])


def test_more_channels_and_outputs_take_more(workspace):
    plans = []
    for dataset in (workspace.plain, workspace.regions):
        main(["plan", "-d", dataset, "--preset", "sfmanet-narrow"])
        folder = workspace.preprocessed / dataset
        dataset_json = json.loads((folder / "dataset.json").read_text())
        plans.append(estimate_memory(json.loads((folder / "sfmanet-narrow.json").read_text()), "2d", dataset_json))
    assert plans[0].bytes_per_image < plans[1].bytes_per_image
