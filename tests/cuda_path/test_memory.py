"""The estimate of ``nnunet-sfma plan`` against what a step on a GPU takes, counted without one."""

import json
from pathlib import Path

from nnunet_sfma.cli import main
from nnunet_sfma.planning.memory import RESERVED_BYTES, estimate_memory
from tests.cuda_path.stub import run_on_cards

COUNT = Path(__file__).parent / "count_memory.py"
PLANS = {
    "sfmanet-atlas": (),
    "sfmanet": ("patch_size=[256,256]", "batch_size=4", "training.activation_checkpointing=true"),
}


def test_estimate_is_a_little_more_than_the_count(workspace, tmp_path):
    folder = workspace.preprocessed / workspace.plain
    for preset, settings in PLANS.items():
        main(["plan", "-d", "1", "--preset", preset, "--set", "training.precision=fp16", *settings])
    paths = [folder / f"{preset}.json" for preset in PLANS]
    counted = json.loads(run_on_cards(COUNT, *map(str, paths), cards="90", folder=tmp_path))
    dataset_json = json.loads((folder / "dataset.json").read_text())
    for path, peak in zip(paths, counted, strict=True):
        plans = json.loads(path.read_text())
        estimate = estimate_memory(plans, "2d", dataset_json)
        batch = plans["configurations"]["2d"]["batch_size"]
        assert peak <= estimate.of_batch(batch) - RESERVED_BYTES <= 2 * peak, path.name
