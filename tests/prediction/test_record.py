"""What a folder of predictions remembers: every file of the images, and nothing that leads out of the folder."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import SimpleITK as sitk  # noqa: N813

from nnunet_sfma.cli import main
from nnunet_sfma.crossval.models import Model
from nnunet_sfma.crossval.predict import prepare
from nnunet_sfma.crossval.prediction_record import remember
from nnunet_sfma.crossval.predictions import Prediction, find_prediction
from tests.conftest import Workspace
from tests.prediction.conftest import PLANS, SHAPES, TRAINER, copy_images, write_masks

RECORD = "nnunet_sfma_prediction.json"


@pytest.fixture
def prediction(trained: Workspace, tmp_path: Path) -> Prediction:
    """Of cases with two channels, all of them done."""
    images = copy_images(trained, tmp_path / "images")
    out = tmp_path / "out"
    prediction = find_prediction(Model("2", TRAINER, PLANS, "2d"), ["0", "1"], images, out, "cpu", 1)
    write_masks(prediction.files(out), images)
    remember(prediction, is_finished=True)
    return prediction


def there(prediction: Prediction) -> set[str]:
    return {path.name.removesuffix(".nii.gz") for path in prediction.output.glob("*.nii.gz")}


@pytest.mark.parametrize("channel", [0, 1])
def test_case_is_predicted_again_whichever_channel_was_changed(prediction: Prediction, channel: int, capsys):
    path = prediction.images / f"larger_{channel:04d}.nii.gz"
    path.write_bytes(path.read_bytes())
    prepare(prediction, overwrite=False)
    assert there(prediction) == {*SHAPES} - {"larger"}
    assert capsys.readouterr().out == "The image of larger was changed: it is predicted again.\n"


def test_command_replaces_the_mask_of_a_case_whose_second_channel_was_changed(prediction: Prediction, capsys):
    path = prediction.images / "larger_0001.nii.gz"
    path.write_bytes(path.read_bytes())
    places = ["-i", str(prediction.images), "-o", str(prediction.output)]
    main(["predict", *places, "-d", "2", "-tr", TRAINER, "-p", PLANS, "-f", "0", "1", "-device", "cpu", "-np", "1"])
    assert "3 cases in 1 part, 2 are there" in capsys.readouterr().out
    masks = {path.name: sitk.GetArrayFromImage(sitk.ReadImage(path)) for path in prediction.output.glob("*.nii.gz")}
    assert [name for name, mask in masks.items() if mask.any()] == ["larger.nii.gz"], "the empty ones were there"


def test_record_of_earlier_versions_is_of_the_first_channel(prediction: Prediction):
    """Nothing is predicted again because of it, until a file is changed."""
    record = json.loads(prediction.record.read_text())
    record["images"] = {case: states[0] for case, states in record["images"].items()}
    prediction.record.write_text(json.dumps(record))
    changed = prediction.images / "smaller_0000.nii.gz"
    changed.write_bytes(changed.read_bytes())
    prepare(prediction, overwrite=False)
    assert there(prediction) == {*SHAPES} - {"smaller"}
    assert json.loads(prediction.record.read_text())["images"]["larger"][1][0] > 0


def test_image_that_was_changed_while_it_was_predicted_is_predicted_again(prediction: Prediction):
    prepare(prediction, overwrite=False)
    path = prediction.images / "larger_0001.nii.gz"
    path.write_bytes(path.read_bytes())
    remember(prediction, is_finished=True)
    prepare(prediction, overwrite=False)
    assert there(prediction) == {*SHAPES} - {"larger"}


def test_image_that_comes_back_as_another_is_predicted_again(prediction: Prediction):
    """After a run without it, which finished."""
    away = {path: path.read_bytes() for path in prediction.images.glob("larger_*")}
    for path in away:
        path.unlink()
    without = replace(prediction, cases=tuple(case for case in prediction.cases if case != "larger"))
    prepare(without, overwrite=False)
    remember(without, is_finished=True)
    for path, content in away.items():
        path.write_bytes(content)
    prepare(prediction, overwrite=False)
    assert there(prediction) == {*SHAPES} - {"larger"}


@pytest.mark.parametrize(
    "content",
    [
        '{"images": {"../victim/scan": [1, 2]}}',
        '{"images": {"../victim/scan": [[1, 2]]}, "finished": true}',
        '{"images": ["../victim/scan"]}',
        '{"images": {"larger": null}}',
        '{"checkpoints": 3}',
        "[]",
        "",
        '{"images"',
        "[" * 100_000,
    ],
)
@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_record_that_is_damaged_or_leads_elsewhere_is_refused(
    prediction: Prediction, tmp_path: Path, content: str, more: list[str]
):
    victim = tmp_path / "victim" / "scan.nii.gz"
    victim.parent.mkdir()
    victim.write_bytes(b"precious")
    prediction.record.write_text(content)
    places = ["-i", str(prediction.images), "-o", str(prediction.output)]
    with pytest.raises(SystemExit, match=rf"^{prediction.record} is damaged \(.+\): remove it and the predictions"):
        main(["predict", *places, "-d", "2", "-tr", TRAINER, "-p", PLANS, "-f", "0", "1", "-device", "cpu", *more])
    assert victim.read_bytes() == b"precious"
    assert there(prediction) == {*SHAPES}


def test_overwrite_does_not_follow_a_link_out_of_the_folder(prediction: Prediction, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "larger.nii.gz").write_bytes(b"precious")
    (prediction.output / "before_postprocessing").symlink_to(elsewhere)
    with pytest.raises(SystemExit, match="before_postprocessing is a link: remove it, or choose another folder"):
        prepare(prediction, overwrite=True)
    assert (elsewhere / "larger.nii.gz").read_bytes() == b"precious"
