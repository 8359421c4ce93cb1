"""What a recipe's seed fixes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_sfma.errors import UserError
from nnunet_sfma.planning.make_plans import make_plans
from tests.conftest import SHORT_RECIPE, TINY_NETWORKS
from tests.trainers.conftest import read_checkpoint


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "checkpoint_final.pth")["network_weights"]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.parametrize("processes", ["0", "1"])
def test_same_seed_same_weights(plan, train_only, monkeypatch, processes):
    monkeypatch.setenv("nnUNet_n_proc_DA", processes)
    once, again = (
        weights(train_only(plan("training.num_epochs=1", "training.seed=7", name=name))) for name in ("once", "again")
    )
    assert same(once, again)


def test_other_seed_other_weights(plan, train_only):
    once, other = (
        weights(train_only(plan("training.num_epochs=1", f"training.seed={seed}", name=f"seed{seed}")))
        for seed in (7, 8)
    )
    assert not same(once, other)


def test_without_a_seed_nothing_is_seeded(plan, train_only):
    np.random.seed(3)
    torch.manual_seed(3)
    once, again = (weights(train_only(plan("training.num_epochs=1", name=name))) for name in ("once", "again"))
    assert not same(once, again)
    assert torch.initial_seed() == 3


def test_prediction_seeds_nothing(plan, train_only):
    folder = train_only(plan("training.num_epochs=1", "training.seed=7"))
    torch.manual_seed(3)
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder.parent), (0,))
    predictor.predict_single_npy_array(np.zeros((1, 1, 40, 32), np.float32), {"spacing": [999, 0.9, 0.9]})
    assert torch.initial_seed() == 3
    assert np.array_equal(np.random.get_state()[1], before)


def test_continued_training_draws_other_samples(plan, train_only, monkeypatch):
    """Else each part of a training that is often interrupted would begin with the same samples."""
    from nnunet_sfma.trainers.nnUNetTrainerRecipe import nnUNetTrainerRecipe

    seen = []
    step = nnUNetTrainerRecipe.train_step

    def stop_after_one(trainer, batch):
        seen.append(batch["data"].clone())
        step(trainer, batch)
        raise KeyboardInterrupt

    monkeypatch.setattr(nnUNetTrainerRecipe, "train_step", stop_after_one)
    monkeypatch.setattr(nnUNetTrainerRecipe, "seconds_between_checkpoints", 0.0)
    plans = plan("training.num_epochs=1", "training.seed=7")
    for continues in (False, True, False):
        with pytest.raises(KeyboardInterrupt):
            train_only(plans, continue_training=continues)
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])


@pytest.mark.parametrize(
    "seed, sentence",
    [
        ("-1", "training.seed is out of range: -1"),
        ("true", "training.seed must be a whole number or null, got True"),
        ("7.0", "training.seed must be a whole number or null, got 7.0"),
        ("seven", "training.seed must be a whole number or null, got 'seven'"),
    ],
)
def test_seeds_that_are_none(workspace, seed, sentence):
    settings = [*TINY_NETWORKS["sfmanet-narrow"], *SHORT_RECIPE, f"training.seed={seed}"]
    with pytest.raises(UserError, match=sentence):
        make_plans(1, "sfmanet-narrow", settings, name="tiny")


def test_plans_from_before_there_were_seeds_train(workspace, plan, train_only):
    plans = plan("training.num_epochs=1")
    path = workspace.preprocessed / workspace.plain / f"{plans}.json"
    content = json.loads(path.read_text())
    assert content["configurations"]["2d"]["training"].pop("seed", 0) is None
    path.write_text(json.dumps(content))
    assert (train_only(plans) / "checkpoint_final.pth").is_file()
