"""The trainers' steps and the batched prediction on a GPU, without one: nothing waits for it that does not have to."""

import json
from pathlib import Path

import pytest

from nnunet_sfma.planning.make_plans import make_plans
from tests.conftest import SHORT_RECIPE, TINY_NETWORKS
from tests.cuda_path.stub import run_on_cards

SCRIPT = Path(__file__).parent / "run_trainer.py"
OF_THE_STEP = {"fp16": "_maybe_opt_step", "bf16": "_backward_and_step"}  # whether the gradient is finite
TRAINED = [
    pytest.param("nnUNetTrainerSFMANet", "sfmanet-narrow", 1, "fp16", id="sfmanet"),
    pytest.param("nnUNetTrainerDANIE", "danie-narrow", 2, "bf16", marks=pytest.mark.slow, id="danie-of-regions"),
]


@pytest.mark.parametrize(("trainer", "preset", "dataset", "precision"), TRAINED)
def test_a_trainer_waits_for_the_gpu_where_it_needs_a_number(
    workspace, tmp_path, monkeypatch, trainer, preset, dataset, precision
):
    make_plans(dataset, preset, [*TINY_NETWORKS[preset], *SHORT_RECIPE, f"training.precision={precision}"], name="tiny")
    monkeypatch.setenv("nnUNet_compile", "false")
    waits = json.loads(run_on_cards(SCRIPT, str(dataset), trainer, "tiny", cards="90", folder=tmp_path))

    loss_gradient_and_counts = ["train_step", OF_THE_STEP[precision], *["hard_counts"] * 3]
    assert waits["train_step"] == loss_gradient_and_counts
    assert waits["planted fault"] == ["train_step", *loss_gradient_and_counts]
    counts_and_loss = ["validation_step"] * 4
    assert waits["validation_step"] == ["refuse_not_finite", *counts_and_loss]
    batches, whole = waits["prediction"][:-2], waits["prediction"][-2:]
    assert set(batches) == {"refuse_not_finite"}
    assert len(batches) <= 5  # 27 patches, in powers of two
    assert whole == ["_internal_predict_sliding_window_return_logits", "predict_logits_from_preprocessed_data"]
