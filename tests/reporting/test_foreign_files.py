"""``nnunet-sfma report`` on evaluations and figures that came from somebody else."""

import csv
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from nnunet_sfma.cli import main
from nnunet_sfma.evaluation.evaluation_file import to_json
from nnunet_sfma.reporting.explained import read_explained
from nnunet_sfma.reporting.models import name_models
from nnunet_sfma.reporting.report import write_report
from tests.evaluation.evaluations import make_evaluation
from tests.reporting.conftest import add_explain

PNG_HEADER = b"\x89PNG\r\n\x1a\n"


def report(evaluations: list[dict], tmp_path: Path) -> str:
    """The page that the command makes of these files."""
    folders = [tmp_path / f"evaluation_{number}" for number in range(len(evaluations))]
    for folder, evaluation in zip(folders, evaluations, strict=True):
        folder.mkdir()
        for fold in evaluation["folds"]:
            fold["curves"] = {}  # they take longest to draw
        (folder / "evaluation.json").write_text(to_json(evaluation))
    main(["report", *map(str, folders), "-o", str(tmp_path / "report.html")])
    return (tmp_path / "report.html").read_text()


def network(name: str, arguments: dict, imports: tuple[str, ...] = ()) -> dict:
    return {"network_class_name": name, "arch_kwargs": arguments, "_kw_requires_import": list(imports)}


def test_nothing_that_an_evaluation_names_is_called_or_imported(tmp_path, monkeypatch):
    victim, hub = tmp_path / "victim.txt", tmp_path / "hub"
    victim.write_text("mine")
    hub.mkdir()
    (hub / "hubconf.py").write_text(f"def run(**_):\n    open({str(victim)!r}, 'w').write('hub')\n")
    (hub / "stranger_of_test.py").write_text(f"open({str(victim)!r}, 'w').write('import')\nReLU = None\n")
    monkeypatch.syspath_prepend(hub)
    unet = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    hostile = (
        network("torch.hub.load", {"repo_or_dir": str(hub), "model": "run", "source": "local"}),
        network("logging.basicConfig", {"filename": str(victim), "filemode": "w", "force": True}),
        network(unet, {"nonlin": "stranger_of_test.ReLU"}, ("nonlin",)),
    )
    evaluations = [make_evaluation(f"nnUNetTrainer{number} / p / 2d", cases=3) for number in range(len(hostile))]
    for evaluation, architecture in zip(evaluations, hostile, strict=True):
        evaluation["model"]["architecture"] = architecture
    page = report(evaluations, tmp_path)
    assert victim.read_text() == "mine"
    assert page.count("nnUNetTrainer2") > 0
    assert "was not counted with the evaluation: evaluate again" in page


def test_cost_is_the_one_that_was_stored(tmp_path):
    evaluation = make_evaluation(cases=2)
    evaluation["model"]["cost"] = {
        "input": [1, 256, 256],
        "parameters": 31_234_567,
        "conv_macs": 65_430_000_000,
        "matmul_macs": 3_210_000_000,
    }
    report([evaluation], tmp_path)
    (row,) = csv.DictReader((tmp_path / "report_tables" / "cost.csv").open())
    assert row["Input"] == "1 × 256 × 256"
    assert float(row["Parameters (M)"]) == 31.234567
    assert float(row["conv (GMAC)"]) + float(row["matmul (GMAC)"]) == pytest.approx(68.64)
    assert "an earlier version counted it as conv: evaluate again" in (tmp_path / "report.html").read_text()


def test_cells_that_a_spreadsheet_would_compute_are_text(tmp_path):
    evaluation = make_evaluation(cases=["=cmd|'/C calc'!A0", "+1", "-x", "@SUM(A1)", "plain"])
    evaluation["cases"][0]["mean"]["hd95"] = -0.5
    report([evaluation], tmp_path)
    rows = list(csv.reader((tmp_path / "report_tables" / "cases.csv").open()))
    assert [row[1] for row in rows[1:]] == ["'=cmd|'/C calc'!A0", "'+1", "'-x", "'@SUM(A1)", "plain"]
    assert "-0.5" in rows[1]


def test_overlays_are_of_the_label_that_was_evaluated(make_with_images, tmp_path):
    evaluation = make_with_images(cases=1)
    assert "Label and prediction" not in write_report([evaluation], tmp_path / "a.html")[0].read_text()
    reference = evaluation["cases"][0]["reference"]
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((4, 24, 20), np.uint8)), reference)
    page = write_report([evaluation], tmp_path / "a.html")[0].read_text()
    assert "reference.nii.gz is not the label that was evaluated" in page
    assert 'alt="The same slice without marks"' not in page


@pytest.mark.parametrize("name", ["/etc/passwd", "../0.png", "x.png", "explain.json", ".", "0.png/../../a.png"])
def test_figures_have_the_names_that_explain_gives(make_with_images, tmp_path, name):
    evaluation = make_with_images(cases=1)
    add_explain(evaluation, figures=1, size=(20, 20))
    path = Path(evaluation["path"]).parent / "explain" / "explain.json"
    listing = json.loads(path.read_text())
    listing["figures"][0]["file"] = name
    path.write_text(json.dumps(listing))
    Path(evaluation["path"]).write_text(to_json(evaluation))
    with pytest.raises(SystemExit, match=r"explain\.json is damaged \(figures\[0\]\.file: .*: remove its folder"):
        main(["report", evaluation["path"], "-o", str(tmp_path / "report.html")])
    assert not any(tmp_path.iterdir())


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _huge(path: Path) -> None:
    rows = zlib.compress(bytes(50_000 // 8 + 1) * 1000)
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    path.write_bytes(PNG_HEADER + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b""))


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _other_format(path: Path) -> None:
    Image.new("RGB", (20, 20)).save(path, "GIF")


def _link(path: Path) -> None:
    Image.new("RGB", (20, 20)).save(path.with_name("private.png"))
    path.unlink()
    path.symlink_to("private.png")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("spoil", [_huge, _cut_off, _other_format, _link, _pipe, Path.unlink])
def test_pictures_that_are_none_leave_a_note(make_with_images, spoil: Callable[[Path], None]):
    evaluation = make_with_images(cases=1)
    add_explain(evaluation, figures=2, size=(40, 40))
    spoil(Path(evaluation["path"]).parent / "explain" / "0.png")
    (explained,) = read_explained(name_models([evaluation]))
    assert [figure.title for figure in explained.figures] == ["SGU gate, skip 1"]
    assert explained.notes == ("Could not be read: 0.png.",)
