"""``nnunet-sfma evaluate`` on a folder of predictions."""

import csv
import gzip
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from nnunet_sfma.cli import main
from nnunet_sfma.evaluation.evaluation_file import read_evaluation
from nnunet_sfma.evaluation.significance import refuse_incomparable
from tests.evaluation.folders import SPACING, random_pair, write_folders, write_volume

LABELS = {"background": 0, "oedema": 1, "core": 2}
UNITS = ("mm", "voxel")


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    """Six cases with two classes; one empty label, one empty prediction, one where both are empty."""
    cases = {f"case_{seed}": random_pair(seed) for seed in range(6)}
    nothing = np.zeros_like(cases["case_0"][0])
    cases["case_3"] = (cases["case_3"][0], nothing)
    cases["case_4"] = (nothing, cases["case_4"][1])
    cases["case_5"] = (nothing, nothing)
    return write_folders(tmp_path, cases, LABELS)


def run(arguments: list[str], *more: str) -> dict:
    main(["evaluate", *arguments, *more])
    output = more[more.index("-o") + 1] if "-o" in more else arguments[1]
    return read_evaluation(Path(output))


def nnunets_summary(arguments: list[str], tmp_path: Path, regions: list, ignore: int | None = None) -> dict:
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder, load_summary_json
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    target = tmp_path / "summary.json"
    compute_metrics_on_folder(
        arguments[3], arguments[1], str(target), SimpleITKIO(), ".nii.gz", regions, ignore, num_processes=1
    )
    return load_summary_json(str(target))


def same(ours: float | None, theirs: float) -> bool:
    return np.isnan(theirs) if ours is None else ours == theirs


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.parametrize(
    ("labels", "keys", "ignore", "entries"),
    [
        (LABELS, {"oedema": 1, "core": 2}, None, {}),
        (
            {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
            {"whole": (1, 2), "core": 2},
            3,
            {"regions_class_order": [1, 2]},
        ),
    ],
)
def test_overlaps_are_exactly_nnunets(tmp_path, labels, keys, ignore, entries):
    cases = {f"case_{seed}": random_pair(seed) for seed in range(4)}
    cases["case_2"] = (np.zeros_like(cases["case_2"][0]), cases["case_2"][1])
    cases["case_3"] = (cases["case_3"][0] * 0, cases["case_3"][1] * 0)
    if ignore:
        for _, reference in cases.values():
            reference[:, :7] = ignore
    arguments = write_folders(tmp_path, cases, labels, **entries)
    theirs = nnunets_summary(arguments, tmp_path, list(keys.values()), ignore)
    ours = run(arguments)
    assert len(theirs["metric_per_case"]) == len(ours["cases"]) == 4
    for expected, case in zip(theirs["metric_per_case"], ours["cases"], strict=True):
        assert Path(expected["prediction_file"]).name == f"{case['case']}.nii.gz"
        for name, key in keys.items():
            assert same(case["classes"][name]["dice"], expected["metrics"][key]["Dice"])
            assert same(case["classes"][name]["iou"], expected["metrics"][key]["IoU"])
    for name, key in keys.items():
        assert same(ours["summary"]["classes"][name]["dice"]["mean"], theirs["mean"][key]["Dice"])
    for ours_key, their_key in (("dice", "Dice"), ("iou", "IoU")):
        assert same(ours["summary"]["mean"][ours_key]["mean"], theirs["foreground_mean"][their_key])


def test_every_number_of_a_case_made_by_hand(tmp_path):
    reference, prediction = (np.zeros((4, 10, 10), np.uint8) for _ in range(2))
    reference[1, 2:6, 2:6] = 1
    reference[3, 0, 0] = 1
    prediction[1, 2:6, 4:8] = 1
    evaluation = run(write_folders(tmp_path, {"a": (prediction, reference)}, {"background": 0, "lesion": 1}))
    metrics = evaluation["cases"][0]["classes"]["lesion"]
    assert metrics["dice"] == metrics["f1"] == pytest.approx(16 / 33)
    assert metrics["iou"] == pytest.approx(8 / 25)
    assert (metrics["precision"], metrics["recall"]) == (8 / 16, pytest.approx(8 / 17))
    assert metrics["specificity"] == pytest.approx(375 / 383)
    assert metrics["accuracy"] == pytest.approx(383 / 400)
    assert metrics["threshold_jaccard"] == 0
    assert metrics["volume_difference"] == pytest.approx(0.5 * 1 * 3 / 1000)
    assert metrics["lesion_recall"] == 0.5
    assert metrics["lesion_f1"] == pytest.approx(1 / 1.5)
    assert metrics["lesion_count_difference"] == 1
    # of the prediction's 16 voxels, 8 lie in the label, 4 half a millimetre and 4 a millimetre away
    assert metrics["asd"] == pytest.approx(6 / 16)
    assert evaluation["cases"][0]["spacing"] == [pytest.approx(side) for side in SPACING[::-1]]
    assert evaluation["detection_by_size"]["lesion"][0] == {
        "from": 0,
        "to": 0.1,
        "lesions": 2,
        "detected": 1,
        "unit": "ml",
    }


@pytest.mark.parametrize(
    ("rule", "false_alarm", "missed", "both_empty"),
    [
        ("nnunet", (0, None), (0, None), (None, None)),
        ("challenge", (0, "diagonal"), (0, "diagonal"), (1, 0)),
        ("transunet", (1, 0), (0, 0), (0, 0)),
    ],
)
def test_rules_for_empty_masks(folders, rule, false_alarm, missed, both_empty):
    evaluation = run(folders, "--empty", rule)
    assert f"empty={rule}" in evaluation["convention"]
    cases = {case["case"]: case for case in evaluation["cases"]}
    diagonal = np.linalg.norm(np.multiply((6, 14, 12), SPACING[::-1]))
    for case, (dice, distance) in (("case_3", false_alarm), ("case_4", missed), ("case_5", both_empty)):
        metrics = cases[case]["classes"]["oedema"]
        assert metrics["dice"] == metrics["iou"] == metrics["lesion_f1"] == dice
        assert metrics["hd95"] == (pytest.approx(diagonal) if distance == "diagonal" else distance)
        assert metrics["nsd"] == dice
    assert evaluation["summary"]["classes"]["core"]["dice"]["n"] == (5 if rule == "nnunet" else 6)


def test_slice_wise_means_are_over_all_slices(folders, tmp_path):
    from nnunetv2.evaluation.evaluate_predictions import compute_tp_fp_fn_tn

    evaluation = run(folders, "--average", "slice")
    dice = []
    for case in evaluation["cases"]:
        prediction, reference = (
            sitk.GetArrayFromImage(sitk.ReadImage(case[key])) == 2 for key in ("prediction", "reference")
        )
        for one, other in zip(reference, prediction, strict=True):
            tp, fp, fn, _ = compute_tp_fp_fn_tn(one, other)
            dice += [2 * tp / (2 * tp + fp + fn)] if tp + fp + fn else []
    assert evaluation["summary"]["classes"]["core"]["dice"]["mean"] == pytest.approx(np.mean(dice))
    volume = run(folders)["summary"]["classes"]["core"]["dice"]["mean"]
    assert volume != pytest.approx(np.mean(dice))


def test_miou_and_f1_by_either_convention(folders):
    plain = run(folders)
    other = run(folders, "--miou", "with-background", "--f1", "f1-of-means")
    ious = [case["classes"][name]["iou"] for case in plain["cases"][:1] for name in ("oedema", "core")]
    assert plain["cases"][0]["mean"]["miou"] == pytest.approx(np.mean(ious))
    assert other["cases"][0]["mean"]["miou"] > plain["cases"][0]["mean"]["miou"]
    core = other["summary"]["classes"]["core"]
    precision, recall = core["precision"]["mean"], core["recall"]["mean"]
    assert core["f1"]["mean"] == pytest.approx(2 * precision * recall / (precision + recall))
    # as every mean over classes: of the classes' means
    assert other["summary"]["mean"]["f1"]["mean"] == pytest.approx(
        np.mean([other["summary"]["classes"][name]["f1"]["mean"] for name in ("oedema", "core")])
    )
    assert "the mean of theirs" in other["convention_texts"]["f1"]
    assert plain["summary"]["classes"]["core"]["f1"]["mean"] == plain["summary"]["classes"]["core"]["dice"]["mean"]
    assert core["f1"]["mean"] != pytest.approx(plain["summary"]["classes"]["core"]["f1"]["mean"])


def test_distances_in_voxels_ignore_the_spacing(tmp_path):
    reference, prediction = (np.zeros((8, 6, 6), np.uint8) for _ in range(2))
    reference[1, 1:5, 1:5] = 1
    prediction[4, 1:5, 1:5] = 1
    arguments = write_folders(tmp_path, {"a": (prediction, reference)}, {"background": 0, "lesion": 1})
    assert run(arguments)["cases"][0]["classes"]["lesion"]["hd95"] == pytest.approx(9)
    in_voxels = run(arguments, "--distances", "voxel")
    assert in_voxels["cases"][0]["classes"]["lesion"]["hd95"] == pytest.approx(3)
    assert in_voxels["dataset"]["unit"] == "voxel"
    assert run(arguments, "--nsd-tolerance", "9")["cases"][0]["classes"]["lesion"]["nsd"] == 1


def measured(cache: Path) -> list[str]:
    """The whole lines of the cache."""
    return [line for line in cache.read_text().splitlines() if line.endswith("}")]


def test_only_what_changed_is_measured_again(folders, capsys):
    first = run(folders)
    cache = Path(folders[1]) / "evaluation" / "measurements.jsonl"
    lines = measured(cache)
    assert len(lines) == 6
    cache.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:40])  # as an interrupted run leaves it
    assert run(folders, "--empty", "challenge")["cases"][0] == first["cases"][0]
    assert len(measured(cache)) == 6
    shutil.copy(Path(folders[1], "case_0.nii.gz"), Path(folders[1], "case_1.nii.gz"))
    again = run(folders)
    assert len(measured(cache)) == 7
    assert again["cases"][1]["mean"] != first["cases"][1]["mean"]
    assert again["cases"][0] == first["cases"][0]


def test_several_evaluations_into_one_folder_do_not_disturb_each_other(tmp_path):
    arguments = write_folders(tmp_path, {"a": random_pair(0)}, LABELS)
    run(arguments)
    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(lambda _: run(arguments), range(24)))
    assert all(evaluation["summary"] == written[0]["summary"] for evaluation in written)
    names = {path.name for path in (tmp_path / "pred" / "evaluation").iterdir()}
    assert names == {"evaluation.json", "cases.csv", "summary.csv", "measurements.jsonl"}


def test_two_processes_make_the_same_numbers(folders, tmp_path):
    one = run(folders)
    two = run(folders, "-np", "2", "-o", str(tmp_path / "two"))
    assert [case["classes"] for case in two["cases"]] == [case["classes"] for case in one["cases"]]


def test_csv_and_json_agree_and_name_the_convention(folders):
    evaluation = run(folders, "--empty", "challenge")
    folder = Path(evaluation["path"]).parent
    rows = list(csv.DictReader((folder / "cases.csv").open(newline="")))
    assert len(rows) == 6 * 3
    assert {row["convention"] for row in rows} == {evaluation["convention"]}
    assert float(rows[0]["dice"]) == evaluation["cases"][0]["classes"]["oedema"]["dice"]
    summary = list(csv.DictReader((folder / "summary.csv").open(newline="")))
    core = next(row for row in summary if row["class"] == "core" and row["metric"] == "hd95")
    assert float(core["mean"]) == evaluation["summary"]["classes"]["core"]["hd95"]["mean"]
    assert core["convention"] == evaluation["convention"]


def test_what_is_printed(folders, capsys):
    run(folders)
    printed = capsys.readouterr().out
    assert "| Dice |" in printed
    assert "HD95 (mm)" in printed
    assert "0/0 has no value" in printed
    main(["evaluate", *folders, "--json"])
    assert json.loads(capsys.readouterr().out)["summary"]["mean"]["dice"]["n"] == 5


def test_pictures_have_pixels_and_objects(tmp_path):
    from skimage import io

    label, instances = (np.zeros((40, 50), np.uint8) for _ in range(2))
    instances[5:15, 5:15], instances[5:15, 15:25] = 1, 2
    label[instances > 0] = 1
    for folder, array in (("labelsTs", label), ("instancesTs", instances), ("pred", label)):
        (tmp_path / folder).mkdir()
        io.imsave(tmp_path / folder / "gland.png", array, check_contrast=False)
    description = {"channel_names": {"0": "R"}, "labels": {"background": 0, "gland": 1}, "file_ending": ".png"}
    for folder in (tmp_path, tmp_path / "pred"):
        (folder / "dataset.json").write_text(json.dumps(description))
    evaluation = run(["-i", str(tmp_path / "pred"), "-l", str(tmp_path / "labelsTs"), "-np", "1"])
    metrics = evaluation["cases"][0]["classes"]["gland"]
    assert (metrics["dice"], metrics["hd95"]) == (1, 0)
    assert metrics["object_f1"] == pytest.approx(2 / 3)  # two touching glands, one predicted object
    assert metrics["volume_reference"] == 200
    assert evaluation["dataset"]["unit"] == evaluation["conventions"]["distances"] == "voxel"
    assert evaluation["split"]["part"] == "test"


def test_resized_volumes_have_voxels_until_they_are_brought_back(folders, tmp_path):
    """The spacing of 1 that their conversion gave them is no millimetre."""
    description = json.loads((tmp_path / "pred" / "dataset.json").read_text())
    resized = {"size": [14, 12], "image": "linear", "label": "nearest", "spacing": [1.0, 1.0, 1.0]}
    (tmp_path / "pred" / "dataset.json").write_text(json.dumps({**description, "resized": resized}))
    dataset = run(folders)["dataset"]
    assert (dataset["unit"], dataset["volume_unit"]) == ("mm", "ml") and dataset["release_options"]["size"] == 14
    for path in [*tmp_path.rglob("case_*.nii.gz")]:
        write_volume(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), path, spacing=(1, 1, 1))
    evaluation = run(folders)
    assert (evaluation["dataset"]["unit"], evaluation["dataset"]["volume_unit"]) == ("voxel", "pixel")
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "labels" / "case_0.nii.gz")))
    assert evaluation["cases"][0]["classes"]["core"]["volume_reference"] == (truth == 2).sum()


def _nan_probabilities(root: Path) -> None:
    np.savez(root / "pred" / "case_0.npz", probabilities=np.full((2, 6, 14, 12), np.nan, np.float32))


def _rewrite(root: Path, change, **options) -> None:
    path = root / "pred" / "case_0.nii.gz"
    write_volume(change(sitk.GetArrayFromImage(sitk.ReadImage(str(path)))), path, **options)


def _move(root: Path) -> None:
    path = str(root / "pred" / "case_0.nii.gz")
    image = sitk.ReadImage(path)
    image.SetOrigin((0, 0, 0))
    image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, 1))
    sitk.WriteImage(image, path)


BAD = {
    "no label": (lambda root: (root / "labels" / "case_0.nii.gz").unlink(), "1 predictions in .* have no label"),
    "no prediction": (lambda root: (root / "pred" / "case_0.nii.gz").unlink(), "1 labels in .* have no prediction"),
    "other size": (lambda root: _rewrite(root, lambda a: a[1:]), r"case_0 lie on different grids .*\(5, 14, 12\)"),
    "other grid": (lambda root: _rewrite(root, lambda a: a, spacing=(1, 1, 1)), "different grids .another spacing"),
    "other place": (lambda root: _move(root), "different grids .another origin and direction"),
    "other labels": (lambda root: _rewrite(root, lambda a: a + 7), "has the labels 7, .* does not know"),
    "fractions": (lambda root: _rewrite(root, lambda a: a + np.float32(0.5)), "values that are no whole numbers"),
    "NaN probabilities": (_nan_probabilities, "probabilities of case_0 .* hold NaN"),
    "damaged": (lambda root: (root / "pred" / "case_0.nii.gz").write_bytes(b"\x1f\x8b nothing"), "cannot be read"),
    "empty folder": (lambda root: shutil.rmtree(root / "labels") or (root / "labels").mkdir(), "There are no labels"),
    "no description": (lambda root: (root / "pred" / "dataset.json").unlink(), "dataset.json with -djfile"),
    "damaged description": (lambda root: (root / "pred" / "dataset.json").write_text("{"), "dataset.json is damaged"),
}


@pytest.mark.parametrize("broken", BAD)
def test_bad_input_ends_in_a_sentence_and_writes_nothing(folders, tmp_path, broken):
    spoil, sentence = BAD[broken]
    spoil(tmp_path)
    with pytest.raises(SystemExit, match=sentence):
        main(["evaluate", *folders, "-o", str(tmp_path / "out")])
    assert not (tmp_path / "out" / "evaluation.json").exists()
    if broken in ("no label", "no prediction", "empty folder", "no description", "damaged description"):
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", ["pred", "labels"])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_files_that_are_cut_off_are_refused_wherever_they_are_cut(tmp_path, part, ending):
    rng = np.random.default_rng(0)
    for folder in ("pred", "labels"):
        write_volume(rng.integers(0, 3, (6, 30, 30)).astype(np.uint8), tmp_path / folder / f"a{ending}")
    description = {"channel_names": {"0": "MRI"}, "labels": LABELS, "file_ending": ending}
    (tmp_path / "pred" / "dataset.json").write_text(json.dumps(description))
    arguments = ["-i", str(tmp_path / "pred"), "-l", str(tmp_path / "labels"), "-np", "1"]
    path = tmp_path / part / f"a{ending}"
    whole = path.read_bytes()
    for kept in range(len(whole) - 1, 400, -len(whole) // 12):
        path.write_bytes(whole[:kept])
        with pytest.raises(SystemExit, match=rf"/{part}/a{ending} (is cut off or damaged|cannot be read)"):
            main(["evaluate", *arguments])
    path.write_bytes(whole)
    assert run(arguments)["cases"][0]["case"] == "a"


def test_compressed_files_with_other_content_are_refused(folders):
    path = Path(folders[1], "case_2.nii.gz")
    whole = path.read_bytes()
    short = gzip.compress(gzip.decompress(whole)[:-100])  # ITK fills up with what lies in memory
    flipped = bytes([*whole[:-8], whole[-8] ^ 1, *whole[-7:]])
    for content in (short, flipped):
        path.write_bytes(content)
        with pytest.raises(SystemExit, match="/pred/case_2.nii.gz (is cut off or damaged|cannot be read)"):
            main(["evaluate", *folders])


def test_nan_in_a_nifti_prediction(folders):
    path = Path(folders[1], "case_1.nii.gz")
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.float32)
    array[array == 2] = np.nan
    write_volume(array, path)
    with pytest.raises(SystemExit, match=rf"case_1.nii.gz has {int(np.isnan(array).sum())} NaN or infinite voxels"):
        main(["evaluate", *folders])


def test_nan_in_a_label_map(tmp_path):
    for folder, value in (("labels", 0), ("pred", np.nan)):
        write_volume(np.full((2, 3, 4), value, np.float32), tmp_path / folder / "a.nrrd")
    description = {"channel_names": {"0": "MRI"}, "labels": LABELS, "file_ending": ".nrrd"}
    (tmp_path / "pred" / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(SystemExit, match="a.nrrd has 24 NaN or infinite voxels"):
        main(["evaluate", "-i", str(tmp_path / "pred"), "-l", str(tmp_path / "labels"), "-np", "1"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Say what to evaluate"),
        (["-i", "x"], "give both -i and -l"),
        (["-i", "x", "-l", "y", "-d", "1"], "Give either a model"),
        (["-i", "x", "-l", "y", "--empty", "zero"], "There is no convention empty=zero"),
        (["-i", "x", "-l", "y"], "There is no folder .*/x"),
    ],
)
def test_wrong_command_line(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=sentence):
        main(["evaluate", *arguments])
    assert not list(tmp_path.iterdir())


def test_relative_folders(folders, monkeypatch):
    monkeypatch.chdir(folders[3])
    assert len(run(["-i", "../pred", "-l", ".", "-np", "1"], "-o", "../out")["cases"]) == 6


def test_single_slices_are_measured_in_pixels(tmp_path):
    reference, prediction = (np.zeros((64, 48), np.uint8) for _ in range(2))
    reference[10:30, 10:30] = 1
    for folder, array in (("pred", prediction), ("labels", reference)):
        (tmp_path / folder).mkdir()
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / folder / "slice.nii.gz"))
    description = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "pred" / "dataset.json").write_text(json.dumps(description))
    folders = ["-i", str(tmp_path / "pred"), "-l", str(tmp_path / "labels"), "-np", "1"]
    evaluation = run(folders, "--empty", "challenge")
    metrics = evaluation["cases"][0]["classes"]["lesion"]
    assert metrics["volume_difference"] == 400
    assert metrics["hd95"] == pytest.approx((64**2 + 48**2) ** 0.5)
    assert evaluation["dataset"]["volume_unit"] == "pixel"
    assert evaluation["detection_by_size"]["lesion"][1] == {
        "from": 100,
        "to": 1000,
        "lesions": 1,
        "detected": 0,
        "unit": "pixel",
    }


def test_slice_wise_miou_of_one_class_is_its_iou(tmp_path):
    cases = {}
    for case, slices in (("a", 1), ("b", 5)):
        reference = np.zeros((6, 10, 10), np.uint8)
        reference[:slices, 2:6, 2:6] = 1
        prediction = reference.copy()
        prediction[:, 2:4] *= case == "a"
        cases[case] = (prediction, reference)
    evaluation = run(write_folders(tmp_path, cases, {"background": 0, "lesion": 1}), "--average", "slice")
    mean = evaluation["summary"]["mean"]
    assert mean["miou"]["mean"] == mean["iou"]["mean"] == pytest.approx((1 + 5 * 0.5) / 6)
    assert evaluation["convention"].endswith("slice_axis=0")


def test_ignored_voxels_count_for_nothing(tmp_path):
    reference, prediction = (np.zeros((4, 10, 10), np.uint8) for _ in range(2))
    reference[0, 2:6, 2:6] = prediction[0, 2:6, 2:6] = 1
    reference[2:] = 2
    prediction[3, 2:6, 2:6] = 1  # a false lesion where nothing counts
    labels = {"background": 0, "lesion": 1, "ignore": 2}
    arguments = write_folders(tmp_path, {"a": (prediction, reference)}, labels)
    evaluation = run(arguments, "--average", "slice", "--empty", "challenge")
    metrics = evaluation["cases"][0]["classes"]["lesion"]
    assert metrics["dice"] == metrics["iou"] == metrics["recall"] == 1
    assert evaluation["dataset"]["ignore_label"] == 2
    metrics = run(arguments, "--average", "slice")["cases"][0]["classes"]["lesion"]
    assert metrics["specificity"] == 1


def test_with_an_ignore_label_only_overlaps_are_measured(tmp_path, capsys):
    reference, prediction = (np.full((4, 16, 16), value, np.uint8) for value in (2, 1))
    reference[:, ::4, ::2] = np.indices((4, 4, 8)).sum(0) % 2  # scribbles
    labels = {"background": 0, "lesion": 1, "ignore": 2}
    arguments = write_folders(tmp_path, {"a": (prediction, reference)}, labels)
    evaluation = run(arguments)
    assert "only overlaps are measured" in capsys.readouterr().out
    overlaps = ["dice", "iou", "miou", "precision", "recall", "f1", "specificity", "accuracy", "threshold_jaccard"]
    assert [metric["key"] for metric in evaluation["metrics"]] == overlaps
    case = evaluation["cases"][0]
    assert case["classes"]["lesion"]["dice"] == pytest.approx(2 / 3) and case["classes"]["lesion"]["recall"] == 1
    assert {case["classes"]["lesion"][key] for key in ("lesions", "volume_reference", "volume_prediction")} == {None}
    assert evaluation["detection_by_size"] is None
    assert set(evaluation["summary"]["mean"]) == set(overlaps)
    main(["report", str(tmp_path / "pred"), "-o", str(tmp_path / "report.html")])
    main(["compare", str(tmp_path / "pred")])
    assert "HD95" not in capsys.readouterr().out


def test_the_command_that_converted_the_data_set_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    main(["convert", "phantom", "--cases", "5", "-d", "77", "-np", "1"])
    raw = tmp_path / "Dataset077_StrokePhantom"
    labels = str(raw / "labelsTr")
    evaluation = run(["-i", labels, "-l", labels, "-djfile", str(raw / "dataset.json"), "-np", "1"])
    assert evaluation["commands"][0] == "nnunet-sfma convert phantom --cases 5 -d 77 -np 1"
    assert evaluation["commands"][1].startswith("nnunet-sfma evaluate -i ")


def test_names_that_a_spreadsheet_would_compute_are_text_in_tables(tmp_path):
    run(write_folders(tmp_path, {"=1+1": random_pair(0), "@SUM(A1)": random_pair(1), "plain": random_pair(2)}, LABELS))
    rows = csv.DictReader((tmp_path / "pred" / "evaluation" / "cases.csv").open(newline=""))
    assert {row["case"] for row in rows} == {"'=1+1", "'@SUM(A1)", "plain"}


def test_volumes_are_in_ml_whatever_the_distances_are_in(folders):
    volumes = [run(folders, "--distances", unit)["cases"][0]["classes"]["core"]["volume_reference"] for unit in UNITS]
    assert volumes[0] == volumes[1] == pytest.approx(18 * np.prod(SPACING) / 1000)


def test_subjects_come_from_the_conversion_or_the_user(tmp_path):
    cases = {name: random_pair(seed) for seed, name in enumerate(("one_a", "one_b", "two_s0"))}
    arguments = write_folders(tmp_path, cases, LABELS)
    (tmp_path / "labels").rename(tmp_path / "labelsTr")
    arguments[3] = str(tmp_path / "labelsTr")
    shutil.copy(tmp_path / "pred" / "dataset.json", tmp_path)
    for case in cases:
        write_volume(cases[case][1], tmp_path / "imagesTr" / f"{case}_0000.nii.gz")
    entry = {"split": "Tr", "part": "Training", "stratum": None, "foreground": 1}
    provenance = {
        "options": {"release": "isles2022", "layout": "x"},
        "command": "nnunet-sfma convert isles2022 SRC",
        "cases": {
            "one_a": {**entry, "subject": "one"},
            "one_b": {**entry, "subject": "one"},
            "two": {**entry, "subject": "two", "slices": ["two_s0"]},
        },
    }
    (tmp_path / "provenance.json").write_text(json.dumps(provenance))
    evaluation = run(arguments)
    assert [case["subject"] for case in evaluation["cases"]] == ["one", "one", "two"]
    assert evaluation["split"]["subjects_known"] is True
    assert evaluation["dataset"]["release"] == "isles2022"
    assert evaluation["commands"][0] == "nnunet-sfma convert isles2022 SRC"
    assert [Path(path).name for path in evaluation["cases"][0]["images"]] == ["one_a_0000.nii.gz"]
    del provenance["cases"]["two"]
    (tmp_path / "provenance.json").write_text(json.dumps(provenance))
    evaluation = run(arguments)
    assert evaluation["split"]["subjects_known"] is False
    assert [case["subject"] for case in evaluation["cases"]] == ["one", "one", None]
    by_case = evaluation["summary"]
    (tmp_path / "subjects.json").write_text(json.dumps({"one_a": "a", "one_b": "b", "two_s0": "two"}))
    evaluation = run(arguments)
    assert evaluation["split"]["subjects_known"] is True
    assert [case["subject"] for case in evaluation["cases"]] == ["a", "b", "two"]
    assert evaluation["summary"] == by_case
    (tmp_path / "provenance.json").write_text(json.dumps({"options": {}, "cases": ["one"]}))
    with pytest.raises(SystemExit, match="provenance.json is damaged"):
        main(["evaluate", *arguments])


PLANS = {
    "dataset_name": "Dataset001_X",
    "plans_name": "p",
    "transpose_forward": [2, 0, 1],
    "configurations": {
        "2d": {
            "patch_size": [8, 8],
            "batch_size": 2,
            "spacing": [1, 1],
            "normalization_schemes": ["ZScoreNormalization"],
            "architecture": {"network_class_name": "a.B", "arch_kwargs": {}, "_kw_requires_import": []},
        }
    },
}


def test_slices_lie_along_the_axis_of_the_plans(folders):
    along_z = run(folders, "--average", "slice")
    Path(folders[1], "plans.json").write_text(json.dumps(PLANS))
    along_x = run(folders, "--average", "slice")
    assert along_x["dataset"]["slice_axis"] == 2
    assert along_x["summary"]["mean"]["dice"]["mean"] != along_z["summary"]["mean"]["dice"]["mean"]
    assert along_x["model"]["configuration"] == "2d"
    elsewhere = [{**case, "prediction": "elsewhere"} for case in along_z["cases"]]
    with pytest.raises(SystemExit, match="slice_axis: 2 and 0"):
        refuse_incomparable([along_x, {**along_z, "cases": elsewhere, "dataset": along_x["dataset"]}])


UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


def with_network(
    folders: list[str], name: str, arguments: dict, imports: tuple[str, ...] = (), **more: str
) -> dict | None:
    """The cost that an evaluation stores of plans that lie beside the predictions."""
    architecture = {"network_class_name": name, "arch_kwargs": arguments, "_kw_requires_import": list(imports)}
    configuration = {**PLANS["configurations"]["2d"], "patch_size": [16, 16], "architecture": architecture, **more}
    Path(folders[1], "plans.json").write_text(json.dumps({**PLANS, "configurations": {"2d": configuration}}))
    return run(folders)["model"]["cost"]


def test_the_network_is_counted_unless_it_is_a_strangers(folders, tmp_path):
    arguments = {
        "n_stages": 2,
        "features_per_stage": [4, 8],
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "kernel_sizes": [[3, 3], [3, 3]],
        "strides": [[1, 1], [2, 2]],
        "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
    }
    cost = with_network(folders, UNET, arguments, ("conv_op",))
    # two encoder stages, the transposed convolution, the decoder stage, three outputs
    weights = (9 * 1 * 4, 9 * 4 * 8, 4 * 8 * 4, 9 * 8 * 4, 4 * 3)
    positions = (16 * 16, 8 * 8, 8 * 8, 16 * 16, 16 * 16)
    conv = sum(weight * times for weight, times in zip(weights, positions, strict=True))
    assert cost == {
        "input": [1, 16, 16],
        "parameters": sum(weights) + 4 + 8 + 4 + 4 + 3,
        "conv_macs": conv,
        "matmul_macs": 0,
        "accelerated_conv_macs": conv,
    }
    assert with_network(folders, UNET, arguments, ("conv_op",), previous_stage="3d_lowres") is None
    one_position = {
        **arguments,
        "strides": [[1, 1], [16, 16]],
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "norm_op_kwargs": {},
    }
    assert with_network(folders, UNET, one_position, ("conv_op", "norm_op")) is None
    victim = tmp_path / "victim"
    victim.write_text("mine")
    hostile = {"filename": str(victim), "filemode": "w", "force": True}
    assert with_network(folders, "logging.basicConfig", hostile) is None
    assert victim.read_text() == "mine"


def test_other_labels_of_the_same_cases_are_not_compared(folders, tmp_path):
    first = run(folders)
    shutil.copytree(folders[3], tmp_path / "other")
    shutil.copytree(folders[1], tmp_path / "pred2")
    write_volume(random_pair(9)[1], tmp_path / "other" / "case_2.nii.gz")
    run(["-i", str(tmp_path / "pred2"), "-l", str(tmp_path / "other"), "-np", "1"])
    with pytest.raises(SystemExit, match=r"differ in the labels of 1 cases \(case_2\)"):
        main(["compare", first["path"], str(tmp_path / "pred2" / "evaluation")])


def test_spacing_beside_a_tiff_counts(tmp_path):
    import tifffile

    prediction, reference = random_pair(0)
    for folder, array in (("pred", prediction), ("labels", reference)):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "a.tif", array)
        (tmp_path / folder / "a.json").write_text(json.dumps({"spacing": [1, 1, 1]}))
    description = {"channel_names": {"0": "EM"}, "labels": LABELS, "file_ending": ".tif"}
    (tmp_path / "pred" / "dataset.json").write_text(
        json.dumps({**description, "overwrite_image_reader_writer": "Tiff3DIO"})
    )
    arguments = ["-i", str(tmp_path / "pred"), "-l", str(tmp_path / "labels"), "-np", "1"]
    before = run(arguments)["cases"][0]["mean"]["assd"]
    for folder in ("pred", "labels"):
        (tmp_path / folder / "a.json").write_text(json.dumps({"spacing": [5, 5, 5]}))
    assert run(arguments)["cases"][0]["mean"]["assd"] == pytest.approx(5 * before)


def test_probabilities_and_instances_that_change_are_noticed(folders, tmp_path):
    run(folders)
    _nan_probabilities(tmp_path)
    with pytest.raises(SystemExit, match="hold NaN"):
        main(["evaluate", *folders])


@pytest.mark.parametrize("name", [b"\xff", b"two\nlines", b"\x1b[2J"])
def test_names_that_are_no_text_are_refused(tmp_path, name):
    arguments = write_folders(tmp_path, {"a": random_pair(0)}, LABELS)
    shutil.copy(tmp_path / "pred" / "a.nii.gz", os.fsdecode(os.fsencode(tmp_path / "pred") + b"/" + name + b".nii.gz"))
    with pytest.raises(SystemExit, match="/pred holds names that no table can show .*: rename these files"):
        main(["evaluate", *arguments])
    assert not (tmp_path / "pred" / "evaluation").exists()


def _without(entries: dict, key: str) -> dict:
    return {name: value for name, value in entries.items() if name != key}


DESCRIPTIONS = {
    "plans without configurations": ("plans.json", _without(PLANS, "configurations")),
    "plans without axes": ("plans.json", _without(PLANS, "transpose_forward")),
    "plans without a patch": ("plans.json", {**PLANS, "configurations": {"2d": {}}}),
    "plans that are a list": ("plans.json", []),
    "labels that are a list": ("dataset.json", {"labels": ["a"], "file_ending": ".nii.gz"}),
    "labels of nnU-Net v1": ("dataset.json", {"labels": {"0": "background"}, "file_ending": ".nii.gz"}),
    "no labels": ("dataset.json", {"file_ending": ".nii.gz"}),
    "a class called mean": ("dataset.json", {"labels": {"background": 0, "mean": 1}, "file_ending": ".nii.gz"}),
}


@pytest.mark.parametrize("broken", DESCRIPTIONS)
def test_damaged_descriptions(folders, broken):
    name, content = DESCRIPTIONS[broken]
    Path(folders[1], name).write_text(json.dumps(content))
    with pytest.raises(
        SystemExit, match=r"(plans|dataset)\.json .*(is damaged|is not what nnU-Net wants|needs classes)"
    ):
        main(["evaluate", *folders])


@pytest.mark.parametrize("reader", ["np", "isfile", "BaseReaderWriter"])
def test_readers_are_nnunets(folders, reader):
    path = Path(folders[1], "dataset.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "overwrite_image_reader_writer": reader}))
    with pytest.raises(SystemExit, match=f"cannot be read .*{reader}"):
        main(["evaluate", *folders])


def test_full_disk_ends_in_a_sentence(folders, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "measurements.jsonl").symlink_to("/dev/full")
    with pytest.raises(SystemExit, match="Could not write .*measurements.jsonl .No space left"):
        main(["evaluate", *folders, "-o", str(tmp_path / "out")])


def test_names_that_are_markup_stay_what_they_are(tmp_path):
    name = 'a "quoted" <b>'
    evaluation = run(write_folders(tmp_path, {name: random_pair(0)}, LABELS))
    assert evaluation["cases"][0]["case"] == name
    rows = list(csv.DictReader((Path(evaluation["path"]).parent / "cases.csv").open(newline="")))
    assert rows[0]["case"] == name
