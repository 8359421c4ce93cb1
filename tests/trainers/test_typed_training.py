"""``nnUNetv2_train`` as it is typed: sentences before nnU-Net's stack traces, and a note of the command."""

import json
import shutil

import pytest
from nnunetv2.run.run_training import run_training_entry

TRAIN = ["nnUNetv2_train", "1", "2d", "0", "-tr", "nnUNetTrainerSFMANet"]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["-p", "nobody"], r"^There are no plans .*Dataset001_Plain/nobody.json: make them with .*, or check -p\.$"),
        (["-p", "tiny", "-device", "mps"], r"^There is no MPS device here that torch can use: give -device cpu\.$"),
        (["-p", "tiny"], r"^There is no CUDA device here that torch can use: give -device cpu\.$"),
        (["-device", "cpu", "-p", "damaged"], r"damaged.json is damaged \(.*\): restore it, or make it again\.$"),
    ],
)
def test_what_is_missing_is_said_and_nothing_left_behind(workspace, plan, monkeypatch, arguments, sentence):
    plan()
    (workspace.preprocessed / workspace.plain / "damaged.json").write_text("{")
    monkeypatch.setattr("torch.set_num_threads", lambda number: None)
    monkeypatch.setattr("torch.set_num_interop_threads", lambda number: None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("sys.argv", [*TRAIN, *arguments])
    with pytest.raises(SystemExit, match=sentence):
        run_training_entry()
    assert not list(workspace.results.iterdir())


def test_a_training_notes_the_command_that_began_it(workspace, plan, train_only, monkeypatch):
    began = [*TRAIN, "-p", plan("training.num_epochs=1"), "-device", "cpu"]
    monkeypatch.setattr("sys.argv", ["/bin/" + began[0], *began[1:]])
    fold = train_only("tiny")
    assert json.loads((fold / "training_command.json").read_text()) == {"command": began}
    shutil.copy(fold / "checkpoint_final.pth", fold / "checkpoint_latest.pth")
    (fold / "checkpoint_final.pth").unlink()
    monkeypatch.setattr("sys.argv", [*began, "--c"])
    train_only("tiny", continue_training=True)
    assert json.loads((fold / "training_command.json").read_text()) == {"command": began}
