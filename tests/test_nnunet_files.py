"""nnU-Net's plans and dataset.json, as users' folders may hold them."""

import json

import pytest

from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.sources import Source
from nnunet_sfma.nnunet_files import read_dataset_json, read_plans

CONFIGURATION = {
    "patch_size": [8, 8],
    "batch_size": 2,
    "spacing": [1, 0.5],
    "normalization_schemes": ["ZScoreNormalization"],
    "architecture": {"network_class_name": "a.B", "arch_kwargs": {}, "_kw_requires_import": []},
}
PLANS = {
    "dataset_name": "Dataset001_X",
    "plans_name": "p",
    "transpose_forward": [2, 0, 1],
    "configurations": {"2d": CONFIGURATION, "more": {"inherits_from": "2d", "batch_size": 4}},
}
DATASET = {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "file_ending": ".nii.gz", "name": "X"}


def test_good_files_come_back_as_they_are(tmp_path):
    for name, content, read in (("plans.json", PLANS, read_plans), ("dataset.json", DATASET, read_dataset_json)):
        (tmp_path / name).write_text(json.dumps(content))
        assert read(tmp_path / name) == content


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("patch_size", [8, 0]),
        ("patch_size", [8.0, 8]),
        ("patch_size", 8),
        ("batch_size", 1e40),
        ("batch_size", True),
        ("spacing", [1, -0.5]),
        ("spacing", [1, float("nan")]),
        ("spacing", [float("inf"), 1]),
        ("normalization_schemes", "ZScoreNormalization"),
        ("architecture", {"network_class_name": 3, "arch_kwargs": {}}),
        ("architecture", {"network_class_name": "a.B", "arch_kwargs": [1]}),
        ("training", [1]),
        ("inherits_from", "nothing"),
    ],
)
def test_wrong_values_of_a_configuration_are_named(tmp_path, key, value):
    path = tmp_path / "plans.json"
    path.write_text(json.dumps({**PLANS, "configurations": {"2d": {**CONFIGURATION, key: value}}}))
    place = "" if key == "inherits_from" else rf"\.{key}"
    with pytest.raises(UserError, match=rf"plans\.json is damaged \(configurations\.2d{place}\b.*: restore it"):
        read_plans(path)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"dataset_name": "../elsewhere"}, "dataset_name"),
        ({"transpose_forward": [0, 1, 1]}, "transpose_forward"),
        ({"configurations": []}, "configurations"),
    ],
)
def test_wrong_values_of_plans_are_named(tmp_path, change, place):
    path = tmp_path / "plans.json"
    path.write_text(json.dumps({**PLANS, **change}))
    with pytest.raises(UserError, match=rf"plans\.json is damaged \({place}: "):
        read_plans(path)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"labels": {"background": 0, "lesion": -1}}, "labels.lesion"),
        ({"labels": {"background": 0, "lesion": []}}, "labels.lesion"),
        ({"labels": {"background": 0, "\x1b[2J": 1}}, "labels"),
        ({"modality": "CT"}, "modality"),
        ({"regions_class_order": "12"}, "regions_class_order"),
        ({"file_ending": "/../x"}, "file_ending"),
        ({"channel_names": {"0": 1}}, "channel_names"),
    ],
)
def test_wrong_values_of_a_dataset_are_named(tmp_path, change, place):
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({**DATASET, **change}))
    with pytest.raises(UserError, match=rf"dataset\.json is damaged \({place}"):
        read_dataset_json(path)


@pytest.mark.parametrize(
    "unused",
    [
        {"channel_names": {"0": "CT"}, "modality": "CT"},
        {"regions_class_order": None},
        {"name": None},
        {"name": "two\nlines"},
    ],
)
def test_what_nobody_uses_may_be_anything(tmp_path, unused):
    (tmp_path / "dataset.json").write_text(json.dumps({**DATASET, **unused}))
    assert read_dataset_json(tmp_path / "dataset.json") == {**DATASET, **unused}


@pytest.mark.parametrize(
    ("name", "shown"), [("two\n\x1b lines", "two lines"), (None, "unnamed data set"), ("\n", "unnamed data set")]
)
def test_names_are_shown_in_one_line(tmp_path, name, shown):
    assert Source("m", tmp_path, [], {**DATASET, "name": name}).dataset_name == shown
