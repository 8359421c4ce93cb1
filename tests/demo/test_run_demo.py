"""The demo from its first command to its pictures, in small."""

import pytest

from nnunet_sfma.cli import main
from nnunet_sfma.demo import run_demo
from nnunet_sfma.errors import UserError
from tests.conftest import SHORT_RECIPE, TINY_NETWORKS


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(run_demo, "TRAINING_CASES", 5)
    monkeypatch.setattr(run_demo, "TEST_CASES", 1)
    monkeypatch.setattr(run_demo, "WORKERS", 1)
    monkeypatch.setattr(
        run_demo, "SETTINGS", ("training.num_epochs=1", *TINY_NETWORKS["sfmanet-narrow"], *SHORT_RECIPE)
    )


def test_missing_device_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="There is no CUDA device here"):
        main(["demo", "-o", str(tmp_path / "demo"), "-device", "cuda"])
    assert not (tmp_path / "demo").exists()


@pytest.mark.slow
def test_demo_runs_the_users_commands_and_does_not_repeat_them(small, tmp_path, capsys):
    folder = tmp_path / "demo"
    main(["demo", "-o", str(folder), "-device", "cpu"])
    printed = capsys.readouterr().out
    commands = [line.split()[1] for line in printed.splitlines() if line.startswith("$ ")]
    assert commands == [
        "nnunet-sfma",
        "nnUNetv2_plan_and_preprocess",
        "nnunet-sfma",
        "nnUNetv2_train",
        "nnUNetv2_predict",
        "nnUNetv2_evaluate_folder",
    ]
    assert "Epoch 0" in printed and "Dice of the held-out phantoms" in printed
    for picture in ("overlay.png", "learning_curve.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")

    main(["demo", "-o", str(folder), "-device", "cpu"])
    printed = capsys.readouterr().out
    commands = [line.split()[1] for line in printed.splitlines() if line.startswith("$ ")]
    assert commands == ["nnUNetv2_predict", "nnUNetv2_evaluate_folder"]


def test_folder_that_cannot_be_written_ends_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write to .*choose another folder with -o"):
        main(["demo", "-o", str(tmp_path / "file")])


@pytest.mark.slow
def test_failing_command_ends_in_its_name_and_log(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_demo, "SETTINGS", ("training.num_epoch=1",))
    with pytest.raises(UserError, match="nnunet-sfma failed with exit code 1; its whole output is in .*plan.log"):
        main(["demo", "-o", str(tmp_path / "demo"), "-device", "cpu"])
    assert "did you mean training.num_epochs" in capsys.readouterr().out
