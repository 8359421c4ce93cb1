"""What all commands share: how they are typed, what they may print, and on what they are started."""

import io
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

import nnunet_sfma
from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError

STARTED = "import sys; from nnunet_sfma.cli import main; main(sys.argv[1:])"


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, cwd=os.sep
    )


@pytest.mark.parametrize("command", [["convert", "--list"], ["plan", "--help"]])
def test_argparse_of_pypi_before_the_standard_one_does_no_harm(command: list[str]):
    """batchgenerators brings unittest2 along, which brings a module called argparse into site-packages."""
    site_packages = sysconfig.get_path("purelib")
    assert python("-c", "import argparse; print(argparse.__file__)", PYTHONPATH=site_packages).stdout.strip() == str(
        Path(site_packages, "argparse.py")
    )
    done = python("-c", STARTED, *command, PYTHONPATH=site_packages)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) > 5


def test_no_module_takes_whatever_argparse_comes_first():
    package = Path(nnunet_sfma.__file__).parent
    takes = [path.name for path in package.rglob("*.py") if re.search(r"^\s*import argparse$", path.read_text(), re.M)]
    assert takes == ["standard_argparse.py"]


def test_warnings_of_other_packages_are_not_shown_to_users():
    done = python("-W", "default::FutureWarning", "-c", STARTED, "weights")
    assert (done.returncode, done.stderr) == (0, "")
    assert "danie-l" in done.stdout


@pytest.mark.parametrize("folds", ["0-", "-1", "0-99999999999", "0-1000", "3-1", "1,", "a", "", "²", "9" * 5000])
def test_folds_that_are_no_list_of_numbers_are_refused(folds: str, capsys):
    with pytest.raises(SystemExit) as error:
        main(["crossval", "-d", "1", "-tr", "nnUNetTrainerSFMANet", f"--folds={folds}", "--dry-run"])
    assert error.value.code == 2
    assert "is no list such as 0-4 or 0,2" in capsys.readouterr().err


def test_folds_are_read_as_ranges_and_numbers(workspace, capsys):
    main(["crossval", "-d", "1", "-tr", "nnUNetTrainerSFMANet", "--folds", "0-1,1,4", "-device", "cpu", "--dry-run"])
    trained = [line.split()[3] for line in capsys.readouterr().out.splitlines() if "nnUNetv2_train " in line]
    assert trained == ["0", "1", "4"]


@pytest.fixture
def predictions(tmp_path: Path) -> list[str]:
    """The options that name a folder of two predictions and that of their labels."""
    for folder, radius in (("labels", 3), ("predictions", 2)):
        (tmp_path / folder).mkdir()
        for case in range(2):
            mask = np.zeros((2, 9, 9), np.uint8)
            mask[:, 4 - radius : 4 + radius, 4 - radius + case : 4 + radius] = 1
            sitk.WriteImage(sitk.GetImageFromArray(mask), str(tmp_path / folder / f"case_{case}.nii.gz"))
    description = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "predictions" / "dataset.json").write_text(json.dumps(description))
    return ["-i", str(tmp_path / "predictions"), "-l", str(tmp_path / "labels"), "-np", "1"]


def test_evaluation_keeps_the_arguments_that_main_was_given(predictions: list[str], tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["notebook", "--of", "somebody"])
    main(["evaluate", *predictions, "-o", str(tmp_path / "with blank")])
    evaluation = json.loads((tmp_path / "with blank" / "evaluation.json").read_text())
    typed = " ".join(["nnunet-sfma evaluate", *predictions])
    assert f"{typed} -o '{tmp_path}/with blank'" in json.dumps(evaluation)


def test_what_an_ascii_stdout_cannot_hold_is_escaped(predictions: list[str], monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    main(["evaluate", *predictions])
    sys.stdout.flush()
    assert b"Dice | 0.593 \\xb1 0.031" in sys.stdout.buffer.getvalue()


def test_two_data_sets_of_one_id_are_named_and_told_apart_by_name(workspace, capsys):
    (workspace.raw / "Dataset001_Other").mkdir()
    with pytest.raises(UserError) as error:
        main(["splits", "-d", "1", "--check"])
    assert str(error.value) == (
        "The data set id 1 is used by Dataset001_Other and Dataset001_Plain: rename one of them, or give the name."
    )
    main(["crossval", "-d", workspace.plain, "-tr", "nnUNetTrainerSFMANet", "-device", "cpu", "--dry-run"])
    trained = [line for line in capsys.readouterr().out.splitlines() if "nnUNetv2_train " in line]
    assert len(trained) == 5
    assert all(f"nnUNetv2_train {workspace.plain} 2d" in line for line in trained)
