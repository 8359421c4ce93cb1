"""``nnunet-sfma doctor``."""

import json
import sys

import pytest

from nnunet_sfma.cli import main
from nnunet_sfma.nnunet_discovery import VARIABLE


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


def test_missing_folder_and_variable_have_a_remedy_and_an_exit_code(folders, capsys, monkeypatch):
    monkeypatch.delenv("nnUNet_raw")
    (folders / "nnUNet_results").rmdir()
    with pytest.raises(SystemExit) as error:
        main(["doctor", "--json"])
    assert error.value.code == 1
    found = findings(capsys)
    assert found["nnUNet_raw"]["remedy"].startswith("export nnUNet_raw=")
    assert found["nnUNet_results"]["remedy"] == f"mkdir -p {folders / 'nnUNet_results'}"


def test_undiscovered_trainer_shows_the_export_line(folders, capsys, monkeypatch):
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(SystemExit):
        main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    off = [line for line in lines if line.startswith("OFF")]
    trainers = [f"nnUNetTrainer{name}" for name in ("DANIE", "DANIE_L", "DANIE_S", "Peer", "SFMANet")]
    assert [line.split()[1] for line in off] == [VARIABLE, *trainers]
    assert all(f"export {VARIABLE}=" in line for line in off)


def test_package_that_cannot_be_imported_is_a_line_and_no_stack_trace(folders, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit):
        main(["doctor", "--json"])
    found = findings(capsys)
    assert [found[subject]["ok"] for subject in ("GPU", "torch.compile")] == [False, False]
    assert "torch" in found["GPU"]["seen"]
