"""Checkpoints are read without running what they name."""

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunet_sfma.errors import UserError
from nnunet_sfma.trainers.checkpoint_reader import DamagedCheckpointError, read_checkpoint, read_facts
from nnunet_sfma.trainers.checkpoints import FINAL, set_aside_damaged

READERS = pytest.mark.parametrize("read", [read_checkpoint, read_facts])
CONTENT = {
    "network_weights": {"weight": torch.arange(6.0)},
    "optimizer_state": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]},
    "logging": {"lrs": [0.1], "mean_fg_dice": [np.float64(0.5)], "train_losses": [np.float32(1.5)]},
    "_best_ema": np.float64(0.25),
    "current_epoch": 1,
    "init_args": {"plans": {}, "configuration": "2d", "fold": 0, "device": torch.device("cpu")},
    "unfinished_epoch": {"outputs": [{"loss": np.array(0.5, np.float32), "tp_hard": np.array([3, 4])}], "seconds": 1.0},
}


class RunsCode:
    """What an attacker pickles: to read it is to make a file."""

    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self) -> tuple[Callable, tuple]:
        return os.mkdir, (str(self.victim),)


@READERS
def test_what_nnunet_and_our_trainers_keep_is_read(tmp_path, read):
    torch.save(CONTENT, tmp_path / "whole.pth")
    content = read(tmp_path / "whole.pth")
    assert content["logging"]["mean_fg_dice"] == [0.5] and content["logging"]["train_losses"] == [1.5]
    assert content["_best_ema"] == 0.25 and content["init_args"]["device"].type == "cpu"
    assert content["unfinished_epoch"]["outputs"][0]["tp_hard"].tolist() == [3, 4]


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_numbers_of_older_and_newer_numpy_are_read(tmp_path, monkeypatch, module):
    written = np._core.multiarray.scalar.__module__
    torch.save(CONTENT, tmp_path / "now.pth")
    rename_in_description(tmp_path / "now.pth", tmp_path / "then.pth", written, module)
    assert read_checkpoint(tmp_path / "then.pth")["_best_ema"] == 0.25


def rename_in_description(path: Path, target: Path, old: str, new: str) -> None:
    import zipfile

    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                content = content.replace(old.encode(), new.encode())
            copy.writestr(entry.filename, content)


@READERS
def test_what_a_checkpoint_brings_along_does_not_run(tmp_path, read):
    victim = tmp_path / "made"
    torch.save({**CONTENT, "logging": RunsCode(victim)}, tmp_path / "hostile.pth")
    with pytest.raises(UserError, match=r"hostile.pth holds posix.mkdir, which may run code and was not loaded"):
        read(tmp_path / "hostile.pth")
    assert not victim.exists()


@READERS
def test_another_type_is_named(tmp_path, read):
    torch.save({**CONTENT, "init_args": {"path": re.compile("x")}}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"holds re._compile"):
        read(tmp_path / "other.pth")


def test_flipped_bits_are_found_where_they_matter(tmp_path):
    path = tmp_path / "flipped.pth"
    torch.save(CONTENT, path)
    content = bytearray(path.read_bytes())
    content[content.index(CONTENT["network_weights"]["weight"].numpy().tobytes())] ^= 4
    path.write_bytes(content)
    with pytest.raises(DamagedCheckpointError, match="wrong checksum of its entry"):
        read_checkpoint(path)
    assert "network_weights" not in read_facts(path)
    content[content.index(b"mean_fg_dice")] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedCheckpointError, match="Bad CRC-32"):
        read_facts(path)


def test_damage_in_the_directory_of_the_file_never_ends_in_another_error(tmp_path):
    path = tmp_path / FINAL
    torch.save(CONTENT, path)
    whole, found = path.read_bytes(), 0
    for place in range(len(whole) - 400, len(whole), 8):
        content = bytearray(whole)
        content[place] ^= 128
        path.write_bytes(content)
        for read in (read_checkpoint, read_facts):
            with contextlib.suppress(DamagedCheckpointError):
                read(path)
        found += len(set_aside_damaged(tmp_path))
    assert found > 25
