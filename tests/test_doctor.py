"""``nnunet-sfma doctor``."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from nnunet_sfma.cli import main
from nnunet_sfma.doctor import _folder
from nnunet_sfma.errors import UserError
from nnunet_sfma.nnunet_discovery import VARIABLE
from nnunet_sfma.nnunet_folders import VARIABLES

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    return tmp_path


def findings(capsys) -> dict:
    return {finding["subject"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_all_is_well(folders, capsys):
    main(["doctor", "--json"])
    assert all(finding["ok"] for finding in findings(capsys).values())


def test_folders_that_are_wrong_have_a_remedy_and_an_exit_code(folders, capsys, monkeypatch):
    monkeypatch.delenv("nnUNet_raw")
    monkeypatch.setenv("nnUNet_preprocessed", "~/data of mine")
    monkeypatch.setenv("HOME", "/home/somebody")
    (folders / "nnUNet_results").rmdir()
    with pytest.raises(SystemExit) as error:
        main(["doctor", "--json"])
    assert error.value.code == 1
    found = findings(capsys)
    assert found["nnUNet_raw"]["remedy"].startswith("export nnUNet_raw=")
    assert found["nnUNet_preprocessed"]["remedy"].startswith("export nnUNet_preprocessed='/home/somebody/data of mine'")
    assert found["nnUNet_results"]["remedy"] == f"mkdir -p {folders / 'nnUNet_results'}"


def test_unexpanded_variable_makes_no_folder_of_that_name(folders, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", "$HOME/raw")
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.chdir(folders)
    with pytest.raises(UserError, match="export nnUNet_raw=/home/somebody/raw"):
        main(["convert", "phantom", "-d", "900", "--cases", "5", "-np", "1"])
    assert not (folders / "$HOME").exists()


def test_only_raw_data_may_be_read_only(folders, capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # to the superuser of the tests all is writable
    found = {variable: _folder(variable) for variable in VARIABLES}
    assert {variable: finding.ok for variable, finding in found.items()} == {
        "nnUNet_raw": True,
        "nnUNet_preprocessed": False,
        "nnUNet_results": False,
    }
    assert "read-only" in found["nnUNet_raw"].seen


def test_installation_whose_start_up_file_is_not_read_shows_the_export_line(folders, tmp_path):
    """As after pip install --target, with PYTHONPATH: importing the package here must not mend what is looked at."""
    target = tmp_path / "target"
    target.mkdir()
    for package in ("nnunet_sfma", "dataset_conversion", "plans"):
        (target / package).symlink_to(CHECKOUT / package)
    venv.create(tmp_path / "environment", with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "environment")}))
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")  # their .pth files are not read
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    command = [tmp_path / "environment/bin/python", "-m", "nnunet_sfma.cli", "doctor", "--json"]
    environment["PYTHONPATH"] = str(target)
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    off = [finding for finding in json.loads(done.stdout) if not finding["ok"]]
    trainers = [f"nnUNetTrainer{name}" for name in ("DANIE", "DANIE_L", "DANIE_S", "Peer", "SFMANet")]
    assert [finding["subject"] for finding in off] == [VARIABLE, *trainers]
    assert all(f"export {VARIABLE}={target}/nnunet_sfma" in finding["remedy"] for finding in off)
    assert done.returncode == 1


def test_package_that_cannot_be_imported_is_a_line_and_no_stack_trace(folders, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit):
        main(["doctor", "--json"])
    found = findings(capsys)
    assert [found[subject]["ok"] for subject in ("GPU", "torch.compile")] == [False, False]
    assert "torch" in found["GPU"]["seen"]
