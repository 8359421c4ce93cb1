"""Each benchmark runs from end to end at a tiny size and writes what it promises."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """``run(script, *arguments)``: what ``python benchmarks/SCRIPT.py ARGUMENTS --json FILE`` writes."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])

    def script(name: str, *arguments: str) -> dict:
        file = tmp_path / "result.json"
        importlib.import_module(name).main([*arguments, "--device", "cpu", "--narrow", "--json", str(file)])
        result = json.loads(file.read_text())
        assert result["machine"]["versions"]["torch"]
        return result

    return script


def test_speed(run, tmp_path):
    table = tmp_path / "table.md"
    networks = ("--networks", "sfmanet", "unet")
    axes = ("--modes", "training", "--sides", "16", "32", "--layouts", "eager", "channels_last")
    result = run("speed", *networks, *axes, "--runs", "2", "--table", str(table))
    assert set(result["ceilings"]["float32"]) == {"operations_per_second", "bytes_per_second"}
    cells = {(cell["side"], cell["layout"]): cell["networks"] for cell in result["cells"]}
    assert len(cells) == 4
    # the deepest map of 16 x 16 is one pixel, which a batch norm cannot train with
    assert {entry["not_run"].split(":")[1] for entry in cells[16, "eager"].values()} == {" ValueError"}
    for entry in cells[32, "eager"].values():
        assert entry["seconds"]["runs"] == 2
        assert entry["seconds"]["low"] <= entry["seconds"]["median"] <= entry["seconds"]["high"]
        assert entry["peak_memory_bytes"] > 12 * entry["parameters"] > 0, "gradients and both moments count"
        assert entry["seconds_at_roof"] < entry["seconds"]["median"]
        assert entry["multiply_adds"] > 0
    unet = cells[32, "eager"]["unet"]
    assert unet["ratio_to_unet"] == unet["ratio_to_eager_unet"] == 1
    assert cells[32, "channels_last"]["unet"]["ratio_to_unet"] == 1
    assert "| sfmanet |" in table.read_text() and "not run: " in table.read_text()


def test_speed_begins_nothing_when_time_is_over(run):
    result = run("speed", "--networks", "unet", "--minutes", "0")
    assert [cell["not_run"] for cell in result["cells"]] == ["the --minutes were over"] * len(result["cells"])


def test_growth(run, tmp_path):
    figure = tmp_path / "growth.png"
    sizes = ("--sides", "32", "64", "--batches", "1", "--slices", "2")
    result = run("growth", "--networks", "unet", *sizes, "--runs", "1", "--figure", str(figure))
    curves = {(curve["title"], curve["axis"], curve["network"]): curve for curve in result["curves"]}
    assert {title for title, _, _ in curves} == {"inference", "training", "prediction, nnunet", "prediction, batched"}
    for curve in curves.values():
        assert not curve["not_run"]
        assert len(curve["x"]) == len(curve["seconds"]) == len(curve["peak_memory_bytes"])
        assert (curve["time_exponent"] is None) == (len(curve["x"]) < 2)
    assert 1 < curves["inference", "side", "axial-attention"]["memory_exponent"] < 3
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_start_up(run):
    result = run("whole_run", "startup", "--pairs", "1")
    assert set(result["start_up_line"]) == {"median", "low", "high", "runs"}
    assert {"nnunet-sfma --help", "nnunet-sfma --version"} < set(result["seconds"])


def test_memory_of_a_training_step(run):
    result = run("whole_run", "memory", "--batch", "2", "--side", "64")
    assert not result["failed"]
    assert result["peak_memory_bytes"]["unet"] > 12 * 1.9e6, "gradients and both moments of 1.9 M parameters count"
    assert result["times_the_unet"]["unet"] == 1 < result["times_the_unet"]["sfmanet"]


def test_stability(run):
    size = ("--steps", "10", "--batch", "2", "--side", "32")
    result = run("whole_run", "stability", "--networks", "unet", "--precision", "bf16", *size)
    training = result["trainings"]["unet bf16"]
    assert training["finite"] and training["falls"] and len(training["losses"]) == 10
    with pytest.raises(SystemExit, match="--precision"):
        run("whole_run", "stability")


def test_epoch_leaves_the_users_models_alone(workspace, tmp_path):
    before = sorted(workspace.results.rglob("*"))
    script, file = BENCHMARKS / "whole_run.py", tmp_path / "epoch.json"
    options = ("--dataset", "1", "--iterations", "1", "--trainers", "sfmanet", "--device", "cpu", "--narrow")
    command = [sys.executable, str(script), "epoch", *options, "--json", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    assert sorted(workspace.results.rglob("*")) == before
    epoch = json.loads(file.read_text())["epochs"]["sfmanet"]
    parts = ("training_wait", "training_step", "validation_wait", "validation_step", "bookkeeping")
    assert epoch["seconds"]["whole"] == pytest.approx(sum(epoch["seconds"][part] for part in parts))
    assert set(epoch["seconds_per_sample"]) == {"loading", "augmentation", "rest"}


def test_counts_of_a_step(run):
    """A convolution and an attention, which inference mode hands over undivided and the CPU fuses."""
    roofline = importlib.import_module("roofline")
    convolution = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
    image, line = torch.randn(1, 3, 16, 16), torch.randn(1, 2, 10, 8)

    @torch.inference_mode()
    def step() -> None:
        convolution(image).view(8, -1)
        torch.nn.functional.scaled_dot_product_attention(line, line, line)

    count = roofline.count(step)
    assert count.multiply_adds == 9 * 3 * 8 * 16 * 16 + 2 * 2 * 10 * 10 * 8
    of_convolution = 4 * (3 * 16 * 16 + 9 * 3 * 8 + 8 * 16 * 16)
    assert count.bytes >= of_convolution + 4 * 4 * line.numel()
    ceilings = {torch.float32: {"operations_per_second": 1e30, "bytes_per_second": 1.0}}
    assert count.seconds_at_roof(ceilings) == pytest.approx(count.bytes)


def test_gradients_of_a_depthwise_convolution_count_twice_the_convolution(run):
    roofline = importlib.import_module("roofline")
    convolution = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8)
    image = torch.randn(1, 8, 16, 16, requires_grad=True)
    count = roofline.count(lambda: convolution(image).sum().backward())
    assert count.multiply_adds == 3 * 9 * 8 * 16 * 16


def test_commits_are_compared_step_by_step(run):
    arguments = ("--networks", "unet", "--modes", "inference", "--sides", "32", "--runs", "2")
    result = run("commits", str(BENCHMARKS.parent), *arguments)
    (cell,) = result["cells"]
    assert cell["ratio"]["runs"] == cell["seconds"]["before"]["runs"] == cell["seconds"]["now"]["runs"] == 2
    assert cell["memory_ratio"] == cell["peak_memory_bytes"]["now"] / cell["peak_memory_bytes"]["before"] > 0
    assert result["commits"]["before"] == result["commits"]["now"]
