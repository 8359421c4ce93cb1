"""``nnunet-sfma convert`` on all data sets: list, dry run, rerun, odd but good sources, and bad ones."""

import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments, preprocess
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from PIL import Image

from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError
from tests.dataset_conversion.releases import (
    TREES,
    Tree,
    build_isles,
    build_synapse,
    move,
    names,
    one,
    picture_mask,
    save,
    voxels,
    write,
)

DATASETS = ["acdc", "atlas", "glas", "isic2017", "isic2018", "isles2022", "synapse"]
ONE_OF_EACH = {tree.dataset: tree for tree in TREES.values()}
VOLUMES = [name for name, tree in TREES.items() if tree.is_volume]
PICTURES = [name for name, tree in TREES.items() if not tree.is_volume]


@pytest.fixture(params=TREES)
def tree(request) -> Tree:
    """Each layout of each data set."""
    return TREES[request.param]


@pytest.fixture
def root(tree, source) -> Path:
    """Its release."""
    return tree.build(source)


def convert(tree: Tree, source: Path | str, dataset_id: int, *more: str) -> Path:
    """Run the command in this process; returns the data set's folder."""
    main(["convert", tree.dataset, str(source), "-d", str(dataset_id), "-np", "1", *tree.options, *more])
    (target,) = Path(os.environ["nnUNet_raw"]).glob(f"Dataset{dataset_id}_*")
    return target


def snapshot(folder: Path) -> dict[Path, tuple[int, int]]:
    """Everything below a folder, hidden or not, with its time and size."""
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def refused(raw: Path, tree: Tree, source: Path | str, *more: str) -> str:
    """The one sentence with which the command fails, once it is sure that nnUNet_raw is as before."""
    before = snapshot(raw)
    with pytest.raises(SystemExit) as error:
        convert(tree, source, 701, *more)
    assert snapshot(raw) == before
    return sentence_of(error.value)


def sentence_of(error: SystemExit) -> str:
    """What the user reads; a UserError ends the program with it on stderr and exit code 1."""
    assert isinstance(error, UserError) and isinstance(error.code, str)
    assert error.code.strip() and "\n" not in error.code
    return error.code


def same_data_set(left: Path, right: Path) -> None:
    """Two data sets agree in every file of images and labels, and in grid."""
    files = sorted(path.relative_to(left) for folder in left.iterdir() if folder.is_dir() for path in folder.iterdir())
    assert files == sorted(path.relative_to(right) for d in right.iterdir() if d.is_dir() for path in d.iterdir())
    for name in files:
        a, b = sitk.ReadImage(str(left / name)), sitk.ReadImage(str(right / name))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(a), sitk.GetArrayFromImage(b), err_msg=str(name))
        assert (a.GetDirection(), a.GetSpacing()) == (b.GetDirection(), b.GetSpacing())


# List


def test_list_shows_all_data_sets_with_licence_size_citation_and_access(capsys):
    main(["convert", "--list"])
    blocks = capsys.readouterr().out.split("\n\n")
    assert [block.split(":")[0] for block in blocks] == DATASETS
    for block in blocks:
        rows = dict(re.findall(r"^ +(\w[\w ]*?) +(\S.*)$", block, re.MULTILINE))
        assert {"size", "licence", "access", "citation"} <= rows.keys()


def test_list_as_json_says_the_same(capsys):
    main(["convert", "--list", "--json"])
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert sorted(entries) == DATASETS
    assert "36684" in entries["atlas"]["access"] and "NC" in entries["acdc"]["licence"]
    assert "7153326" in entries["isles2022"]["access"] and "SA" in entries["isles2022"]["licence"]
    assert "synapse.org" in entries["synapse"]["access"] and "CC0" in entries["isic2017"]["licence"]
    assert "commercial" in entries["glas"]["licence"] and "NC" in entries["isic2018"]["licence"]
    assert all(entry["citation"] and entry["size"] for entry in entries.values())


@pytest.mark.parametrize(
    ("dataset", "totals"),
    [
        ("acdc", {"database": {"Training": 200, "Testing": 100}}),
        ("atlas", {"R1.1": {"Training": 229}, "R1.2": {"Training": 239}, "R2.0": {"Training": 655, "Testing": 300}}),
        ("glas", {"Warwick QU": {"Training": 85, "Test A": 60, "Test B": 20}}),
        ("isic2017", {"official folders": {"Training": 2000, "Validation": 150, "Test": 600}}),
        ("isic2018", {"official folders": {"Training": 2594, "Validation": 100, "Test": 1000}}),
        ("isles2022", {"Zenodo release": {"Training": 250}, "challenge sample": {"Training": 250}}),
        ("synapse", {"RawData": {"Training": 30, "Testing": 20}}),
    ],
)
def test_totals_are_the_published_ones(capsys, dataset, totals):
    main(["convert", "--list", "--json"])
    (entry,) = (entry for entry in json.loads(capsys.readouterr().out) if entry["name"] == dataset)
    assert entry["totals"] == totals


def test_convert_without_a_data_set_says_what_to_do():
    with pytest.raises(SystemExit) as error:
        main(["convert"])
    assert "--list" in sentence_of(error.value)


# Dry run


def test_dry_run_names_what_is_missing(source, capsys):
    build_synapse(source, training=[1, 2, *range(4, 11), *range(21, 40)], testing=range(61, 81))
    main(["convert", "synapse", str(source), "--dry-run"])
    assert "Training: 28 of 30 (2 missing: case0003, case0040)" in capsys.readouterr().out


@pytest.mark.parametrize("spoil", ["link", "empty"])
def test_dry_run_tells_of_files_that_hold_nothing(tree, root, raw, spoil):
    """As a checkout of git-annex or DataLad has them before the content is fetched."""
    used = re.compile(r".*(?<!_4d)\.nii\.gz|.*\.jpg|train_1\.bmp")
    path = next(path for path in sorted(root.rglob("*")) if used.fullmatch(path.name))
    path.unlink()
    path.symlink_to("nowhere") if spoil == "link" else path.touch()
    sentence = refused(raw, tree, root, "--dry-run")
    assert str(path) in sentence and ("points nowhere" if spoil == "link" else "is empty") in sentence


def test_dry_run_of_a_test_part_alone_is_refused_as_the_conversion_is(raw, source):
    tree = TREES["atlas-r2.0"]
    root = tree.build(source)
    shutil.rmtree(root / "Training")
    for more in ((), ("--dry-run",)):
        assert "no training cases" in refused(raw, tree, root, *more)


def test_test_part_is_recognised_from_inside(source, monkeypatch, capsys):
    root = TREES["atlas-r2.0"].build(source)
    monkeypatch.chdir(root / "Testing")
    with pytest.raises(UserError, match="no training cases"):
        main(["convert", "atlas", ".", "--dry-run"])


def test_source_that_holds_nnunet_raw(tree, source, monkeypatch, capsys):
    """What was converted before is not taken for a part of the release."""
    tree.build(source)
    raw = source / "nnUNet_raw"
    raw.mkdir()
    monkeypatch.setenv("nnUNet_raw", str(raw))
    convert(tree, source, 701)
    convert(tree, source, 701)
    assert "nothing to do" in capsys.readouterr().out


def test_size_of_pictures_is_bounded(raw, source):
    tree = ONE_OF_EACH["isic2018"]
    assert "--size 60000" in refused(raw, tree, tree.build(source), "--size", "60000")


def test_dry_run_tells_layout_and_counts_and_writes_nothing(tree, root, capsys, monkeypatch):
    """It needs neither an id nor nnUNet_raw."""
    monkeypatch.delenv("nnUNet_raw", raising=False)
    before = snapshot(root)
    main(["convert", tree.dataset, str(root), "--dry-run", *tree.options])
    said = capsys.readouterr().out
    assert tree.layout in said.splitlines()[0] and str(root) in said
    assert re.search(r"Training: \d+ of \d+ \(\d+ missing", said)
    assert f"{len(tree.training)} training and {len(tree.testing)} test cases" in said
    assert snapshot(root) == before


def test_dry_run_counts_against_the_published_totals(source, capsys):
    root = build_synapse(source, training=range(1, 31), testing=range(61, 81))
    main(["convert", "synapse", str(root), "--dry-run"])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "Training: 30 of 30" in lines and "Testing: 20 of 20" in lines
    shutil.rmtree(root / "Testing")
    main(["convert", "synapse", str(root), "--dry-run"])
    assert (
        "Testing: 0 of 20 (20 missing: case0061, case0062, case0063, case0064, case0065, ...)"
        in capsys.readouterr().out
    )


def test_dry_run_as_json_says_the_same(tree, root, raw, capsys):
    main(["convert", tree.dataset, str(root), "--dry-run", "--json", *tree.options])
    told = json.loads(capsys.readouterr().out)
    assert (told["release"], told["layout"], told["problems"]) == (tree.dataset, tree.layout, [])
    assert sorted(told["training_cases"]) == sorted(tree.training)
    assert sorted(told["test_cases"]) == sorted(tree.testing)
    assert sum(count["found"] for count in told["counts"].values()) == len(tree.training + tree.testing)
    assert names(raw) == []


def test_dry_run_names_what_is_missing_and_fails(tree, root, raw, capsys):
    tree.mask_in(root).unlink()
    with pytest.raises(SystemExit) as error:
        main(["convert", tree.dataset, str(root), "--dry-run", *tree.options])
    assert sentence_of(error.value).startswith(f"Cannot convert {root}: ")
    assert stem(tree) in error.value.code
    assert tree.layout in capsys.readouterr().out and names(raw) == []


def stem(tree: Tree) -> str:
    """How a sentence may name the case: as its files do."""
    return {"synapse": "0001"}.get(tree.dataset, tree.case)


# Conversion


def test_cases_labels_and_licence_are_the_official_ones(tree, root, raw):
    target = convert(tree, root, 701)
    ending = ".nii.gz" if tree.is_volume else ".png"
    entries = json.loads((target / "dataset.json").read_text())
    assert names(target / "labelsTr") == sorted(f"{case}{ending}" for case in tree.training)
    assert names(target / "imagesTs") == sorted(f"{case}_0000{ending}" for case in tree.testing)
    assert entries["labels"] == tree.labels and entries["numTraining"] == len(tree.training)
    assert entries["licence"] and entries["reference"]
    found = {value for path in (target / "labelsTr").iterdir() for value in np.unique(voxels(path)).tolist()}
    assert found == set(tree.labels.values())
    assert names(raw) == [target.name]


def test_provenance_knows_release_and_every_source_file(tree, root, raw):
    entries = json.loads((convert(tree, root, 701) / "provenance.json").read_text())
    assert entries["options"]["release"] == tree.dataset and entries["options"]["layout"] == tree.layout
    assert sorted(entries["cases"]) == sorted(tree.training + tree.testing)
    sources = [Path(entries["source_folder"]) / name for name in entries["cases"][tree.case]["sha256"]]
    assert {tree.image_in(root), tree.mask_in(root)} <= set(sources)


def test_workers_write_the_same_as_one_process(raw, source):
    tree = TREES["glas"]
    root = tree.build(source)
    same_data_set(convert(tree, root, 701), convert(tree, root, 702, "-np", "2"))


def test_rerun_says_that_all_is_there_and_leaves_it(tree, root, raw, capsys):
    target = convert(tree, root, 701)
    before = snapshot(raw)
    capsys.readouterr()
    assert convert(tree, root, 701) == target
    assert snapshot(raw) == before
    assert f"{target} is complete" in capsys.readouterr().out


def test_rerun_from_a_copy_elsewhere_is_no_other_request(raw, source, tmp_path):
    tree = TREES["acdc"]
    root = tree.build(source)
    convert(tree, root, 701)
    before = snapshot(raw)
    convert(tree, move(root, tmp_path / "moved" / "database"), 701)
    assert snapshot(raw) == before


def test_rerun_with_other_files_needs_overwrite(tree, root, raw):
    target = convert(tree, root, 701)
    first = tree.image_in(root)
    others = voxels(target / "imagesTr" / names(target / "imagesTr")[0])
    first.write_bytes(one(root, first.name).read_bytes() + b"\0")
    assert "--overwrite" in refused(raw, tree, root)
    before = snapshot(target)
    convert(tree, root, 701, "--overwrite")
    assert snapshot(target) != before and names(raw) == [target.name]
    np.testing.assert_array_equal(voxels(target / "imagesTr" / names(target / "imagesTr")[0]), others)


@pytest.mark.parametrize("name", PICTURES[:2])
def test_rerun_with_another_size_needs_overwrite(raw, source, name):
    tree = TREES[name]
    root = tree.build(source)
    target = convert(tree, root, 701)
    sentence = refused(raw, tree, root, "--size", "16")
    assert "other options" in sentence and "--overwrite" in sentence
    convert(tree, root, 701, "--size", "16", "--overwrite")
    assert voxels(target / f"labelsTr/{tree.case}.png").shape == (16, 16)


@pytest.mark.parametrize(
    ("name", "options"),
    [("isles-zenodo", ["--modality", "adc"]), ("synapse", ["--labels", "cascade"]), ("isic2018", ["--size", "0"])],
)
def test_options_that_name_another_data_set_need_another_id(raw, source, name, options):
    tree = TREES[name]
    root = tree.build(source)
    target = convert(tree, root, 701)
    assert f"701 already belongs to {target.name}" in refused(raw, tree, root, *options, "--overwrite")


@pytest.mark.parametrize(
    ("options", "channels"),
    [([], ["DWI"]), (["--modality", "adc"], ["ADC"]), (["--modality", "dwi+adc"], ["DWI", "ADC"])],
)
def test_modality_reaches_the_converter(raw, source, options, channels):
    target = convert(TREES["isles-zenodo"], build_isles(source), 701, *options)
    assert list(json.loads((target / "dataset.json").read_text())["channel_names"].values()) == channels


def test_leftovers_of_a_killed_conversion_do_not_hinder(tree, root, raw):
    target = convert(tree, root, 701)
    left = raw / f".{target.name}.unfinished"
    target.rename(left)
    (left / "provenance.json").unlink()
    convert(tree, root, 701)
    assert names(raw) == [target.name] and (target / "provenance.json").is_file()


def test_nnunet_verifies_plans_and_preprocesses_every_data_set(raw, tmp_path, monkeypatch, capfd):
    """What ``nnUNetv2_plan_and_preprocess -c 2d --verify_dataset_integrity`` does, in a tenth of the time.

    nnU-Net starts three pools for each data set: their workers are forked from a server that has imported it once. And
    it draws 100 million voxels, with replacement, for its statistics: fewer will do here.
    """
    for variable in ("nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    ids = {}
    for dataset_id, (dataset, tree) in enumerate(ONE_OF_EACH.items(), 710):
        ids[dataset_id] = convert(tree, tree.build(tmp_path / dataset), dataset_id)
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["nnunetv2.experiment_planning.plan_and_preprocess_api"])
    monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: server)
    capfd.readouterr()
    for dataset_id, target in ids.items():
        verify_dataset_integrity(str(target), 1)
        extractor = DatasetFingerprintExtractor(dataset_id, 1)
        extractor.num_foreground_voxels_for_intensitystats = 1000
        extractor.run()
    said = capfd.readouterr().out
    assert "Warning" not in said and "Error" not in said
    plan_experiments(list(ids))
    preprocess(list(ids), configurations=("2d",), num_processes=(1,))
    assert sorted(tree.dataset for tree in ONE_OF_EACH.values()) == DATASETS
    for tree, target in zip(ONE_OF_EACH.values(), ids.values(), strict=True):
        done = tmp_path / "nnUNet_preprocessed" / target.name
        files = names(done / "nnUNetPlans_2d")
        assert {name.split(".")[0].removesuffix("_seg") for name in files} == set(tree.training)
        assert json.loads((done / "dataset.json").read_text())["labels"] == tree.labels


# Odd sources that are good all the same


def decorate_with_macos_files(root: Path) -> Path:
    """What Finder and its archives leave beside the files."""
    for path in [path for path in root.rglob("*") if path.is_file()]:
        path.with_name("._" + path.name).write_bytes(b"\0\5\x16\7" * 20)
        shadow = root / "__MACOSX" / path.relative_to(root)
        shadow.parent.mkdir(parents=True, exist_ok=True)
        shadow.with_name("._" + path.name).write_bytes(b"\0\5\x16\7" * 20)
        shutil.copy(path, shadow)
        trashed = root / ".Trashes" / path.relative_to(root)
        trashed.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, trashed)
        (path.parent / ".DS_Store").write_bytes(b"Bud1")
    return root


def link_files(root: Path) -> Path:
    """Every file is a link to one with another name elsewhere, as in git-annex."""
    store = root.with_name("store")
    store.mkdir()
    for number, path in enumerate([path for path in root.rglob("*") if path.is_file()]):
        target = move(path, store / f"{number:05d}")
        path.symlink_to(target)
    return root


def link_folders(root: Path) -> Path:
    """Every folder in the release is a link, and the release itself is one."""
    for number, path in enumerate([path for path in sorted(root.iterdir()) if path.is_dir()]):
        path.symlink_to(move(path, root.with_name(f"disk{number}") / path.name))
    link = root.with_name("link")
    link.symlink_to(root)
    return link


def add_loop(root: Path) -> Path:
    """Links to the folder itself and to the one above, before and after all names."""
    for name in ("00loop", "zz loop"):
        (root / name).symlink_to(root)
    (root / "above").symlink_to(root.parent)
    for folder in [path for path in root.rglob("*") if path.is_dir() and not path.is_symlink()]:
        (folder / "zz").symlink_to(root)
    return root


ODD = {
    "spaces and other alphabets": lambda root: move(root, root.with_name("мои данные ünï 数据") / root.name),
    "macOS files": decorate_with_macos_files,
    "linked files": link_files,
    "linked folders": link_folders,
    "loop": add_loop,
    "..": lambda root: root / ".." / root.name / ".." / root.name,
    "parent": lambda root: root.parent,
}


@pytest.mark.parametrize("oddity", ODD)
def test_odd_source_converts_to_the_same(tree, source, raw, tmp_path, oddity):
    usual = convert(tree, tree.build(tmp_path / "usual"), 701)
    same_data_set(usual, convert(tree, ODD[oddity](tree.build(source)), 702))


def test_relative_source(tree, root, raw, monkeypatch):
    usual = convert(tree, root, 701)
    for dataset_id, place, relative in ((702, root, "."), (703, root.parent, root.name), (704, raw, "../source")):
        monkeypatch.chdir(place)
        same_data_set(usual, convert(tree, relative, dataset_id))


@pytest.mark.parametrize("name", PICTURES)
def test_file_endings_in_capitals(raw, source, tmp_path, name):
    """Cameras and Windows write them; of NIfTI, ITK itself reads only small ones."""
    tree = TREES[name]
    usual = convert(tree, tree.build(tmp_path / "usual"), 701)
    root = tree.build(source)
    for path in [path for path in root.rglob("*") if path.suffix in (".jpg", ".png", ".bmp")]:
        path.rename(path.with_suffix(path.suffix.upper()))
    same_data_set(usual, convert(tree, root, 702))


# Bad sources


def test_missing_and_empty_folder(tree, raw, source):
    assert f"{source / 'nowhere'} is not a folder" in refused(raw, tree, source / "nowhere")
    assert f"{source} is empty" in refused(raw, tree, source)
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / ".DS_Store").write_bytes(b"Bud1")
    assert f"{source} is empty" in refused(raw, tree, source)


@pytest.mark.parametrize("dataset", DATASETS)
def test_name_that_is_not_utf8_is_refused(raw, source, dataset):
    """As an old archive from Windows unpacks; ITK would end the whole program."""
    tree = ONE_OF_EACH[dataset]
    root = tree.build(source)
    os.rename(os.fsencode(root), os.fsencode(source) + b"/\xfcbung")
    sentence = refused(raw, tree, source)
    assert "not UTF-8" in sentence and r"\xfcbung" in sentence and "rename" in sentence


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_source_whose_own_name_is_not_utf8_is_refused(raw, source, more):
    tree = TREES["isic2018"]
    root = tree.build(source)
    named = os.fsdecode(os.fsencode(source) + b"/\xfcbung")
    os.rename(root, named)
    sentence = refused(raw, tree, named, *more)
    assert "not UTF-8" in sentence and r"\xfcbung" in sentence and "rename" in sentence


def test_nnunet_raw_whose_name_is_not_utf8_is_refused(source, tmp_path, monkeypatch):
    tree = TREES["synapse"]
    raw = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfcbung"))
    raw.mkdir()
    monkeypatch.setenv("nnUNet_raw", str(raw))
    sentence = refused(raw, tree, tree.build(source))
    assert "not UTF-8" in sentence and r"\xfcbung" in sentence and names(raw) == []


def test_folder_of_something_else_tells_what_was_expected(tree, raw, source):
    save(picture_mask(), source / "holiday.jpg")
    sentence = refused(raw, tree, source)
    assert str(source) in sentence and "expected" in sentence and "looks like" not in sentence


@pytest.mark.parametrize(
    ("given", "there"), [(given, name) for name in TREES for given in DATASETS if given != TREES[name].dataset]
)
def test_wrong_data_set_is_told_which_it_is(raw, source, given, there):
    root = TREES[there].build(source)
    assert f"(nnunet-sfma convert {TREES[there].dataset})" in refused(raw, ONE_OF_EACH[given], root)


@pytest.mark.parametrize(("given", "there"), [("isic2017", "isic2018"), ("isic2018", "isic2017")])
def test_other_year_is_told_from_its_folders_alone(raw, source, given, there):
    """The photographs of both years have the same names, and few copies keep superpixels and tables."""
    root = TREES[there].build(source)
    for path in [*root.rglob("*superpixels*"), *root.rglob("*.csv"), *root.rglob("*.txt")]:
        path.unlink()
    for folder in (root, one(root, "*Training*Ground*").parent):
        assert f"(nnunet-sfma convert {there})" in refused(raw, TREES[given], folder)


def test_archive_that_was_not_unpacked_is_named(tree, raw, source):
    (source / "release.zip").write_bytes(b"PK")
    assert "unpack release.zip first" in refused(raw, tree, source)


DAMAGED = {
    "deep": b"[" * 200_000,
    "digits": b'{"a": ' + b"9" * 6000 + b"}",
    "not utf-8": b"\xff\xfe{\0",
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "number": b"1",
    "nothing in it": b"{}",
    "of another type": b'{"request": 1, "files": [], "options": [], "cases": 1, "file_ending": 2, "labels": []}',
    "leads out of the folder": b'{"request": "", "files": {"../x": 1}, "file_ending": "/../x", "options": {}, "cases": '
    b'{"../x": {}}}',
}


@pytest.mark.parametrize("name", ["dataset.json", "provenance.json"])
def test_damaged_json_of_a_data_set_ends_every_command_that_reads_it(raw, source, tmp_path, monkeypatch, name):
    for variable in ("nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    tree = TREES["glas"]
    path = convert(tree, tree.build(source), 701) / name
    stack = ["stack", "-d", "701", "-i", str(path.parent / "labelsTr"), "-o", str(tmp_path / "out")]
    commands = [["convert", "glas", str(source), "-d", "701"], ["splits", "-d", "701", "--scheme", "five-fold"], stack]
    for kind, content in DAMAGED.items():
        path.write_bytes(content)
        for command in commands:
            with pytest.raises(SystemExit) as error:
                main(command)
            sentence = sentence_of(error.value)
            assert name in sentence or command == stack, kind
    assert not (tmp_path / "out").exists() and not (tmp_path / "nnUNet_preprocessed").exists()


@pytest.fixture
def there(tree, source, raw) -> Path:
    """The release after it was converted, to be spoiled: a failing rerun must leave what is there."""
    root = tree.build(source)
    convert(tree, root, 701)
    return root


@pytest.mark.parametrize("which", ["image", "mask"])
def test_half_a_file(tree, there, raw, which):
    path = one(there, getattr(tree, which))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    sentence = refused(raw, tree, there, "--overwrite")
    assert str(path) in sentence and "intact copy" in sentence


@pytest.mark.parametrize("which", ["image", "mask"])
def test_page_that_was_saved_instead_of_a_file(tree, root, raw, which):
    path = one(root, getattr(tree, which))
    path.write_bytes(b"<html>403 Forbidden</html>\n" * 40)
    assert str(path) in refused(raw, tree, root)


@pytest.mark.parametrize("which", ["image", "mask"])
def test_link_to_nowhere(tree, root, raw, which):
    path = one(root, getattr(tree, which))
    path.unlink()
    path.symlink_to(root / "gone")
    assert str(path) in refused(raw, tree, root)


def test_image_without_mask(tree, there, raw):
    for path in there.rglob(tree.mask.replace("Smooth_stx", "Smooth*stx")):
        path.unlink()
    sentence = refused(raw, tree, there, "--overwrite")
    assert stem(tree) in sentence and re.search("no (mask|ground truth)", sentence)
    assert "complete the download" in sentence


def test_mask_without_image(tree, root, raw):
    tree.image_in(root).unlink()
    sentence = refused(raw, tree, root)
    assert stem(tree) in sentence and re.search("no (image|DWI)", sentence)
    assert "complete the download" in sentence


def test_two_files_for_one_case(tree, root, raw):
    path = tree.image_in(root)
    if tree.dataset == "isles2022":  # finds files by folder
        copy = path.with_name(path.name.replace("_dwi", "_copy_dwi"))
    else:
        copy = root / "copy" / path.parent.name / path.name
        copy.parent.mkdir(parents=True)
    shutil.copy(path, copy)
    sentence = refused(raw, tree, root)
    assert path.name in sentence and copy.name in sentence and "several files" in sentence


@pytest.mark.parametrize("name", VOLUMES)
def test_compressed_and_uncompressed_twin(raw, source, name):
    tree = TREES[name]
    path = tree.image_in(tree.build(source))
    write(sitk.ReadImage(str(path)), path.with_suffix(""))
    assert "several files" in refused(raw, tree, source)


def test_image_of_zeros(tree, there, raw):
    path = tree.image_in(there)
    if tree.is_volume:
        write(sitk.ReadImage(str(path)) * 0, path)
    else:
        save(Image.new("RGB", Image.open(path).size), path)
    sentence = refused(raw, tree, there, "--overwrite")
    assert path.name in sentence and "only zeros" in sentence


@pytest.mark.parametrize("name", VOLUMES)
@pytest.mark.parametrize("which", ["image", "mask"])
def test_voxel_that_is_not_a_number(raw, source, name, which):
    tree = TREES[name]
    root = tree.build(source)
    path = one(root, getattr(tree, which))
    image = nibabel.load(path)
    array = np.asarray(image.dataobj).astype(np.float32)
    array[3, 4, 2] = np.nan
    nibabel.save(nibabel.Nifti1Image(array, image.affine), path)
    sentence = refused(raw, tree, root)
    assert str(path) in sentence and "1 NaN" in sentence


@pytest.mark.parametrize(("name", "value"), [("isles-zenodo", 2), ("synapse", 14), ("acdc", 4)])
def test_label_value_outside_the_map(raw, source, name, value):
    tree = TREES[name]
    root = tree.build(source)
    path = tree.mask_in(root)
    label = sitk.ReadImage(str(path))
    label[2, 3, 1] = value
    write(label, path)
    sentence = refused(raw, tree, root)
    assert path.name in sentence and f"({value})" in sentence


def test_mask_of_another_shape(tree, root, raw):
    path = tree.mask_in(root)
    if tree.is_volume:
        write(sitk.ReadImage(str(path))[:, :, :-1], path)
    else:
        save(Image.open(path).crop((0, 0, 40, 29)), path)
    sentence = refused(raw, tree, root)
    assert path.name in sentence and re.search(r"\(10, 12, 5\)|40 x 29", sentence)


@pytest.mark.parametrize("prop", ["Spacing", "Origin", "Direction"])
@pytest.mark.parametrize("name", [name for name in VOLUMES if name != "acdc"])  # whose headers are known to disagree
def test_mask_with_another_affine(raw, source, name, prop):
    tree = TREES[name]
    root = tree.build(source)
    path = tree.mask_in(root)
    label = sitk.ReadImage(str(path))
    other = {"Spacing": (1, 1, 1), "Origin": (0, 0, 0), "Direction": np.eye(3).ravel()}[prop]
    getattr(label, f"Set{prop}")(other)
    write(label, path)
    sentence = refused(raw, tree, root)
    assert path.name in sentence and prop.lower() in sentence and "grid" in sentence


def test_damaged_source_leaves_no_first_conversion(tree, root, raw):
    """The first cases are written before the bad one is met."""
    tree.mask_in(root).write_bytes(b"")
    refused(raw, tree, root)
    assert names(raw) == []


def test_read_only_target(tree, root, monkeypatch):
    # Root may write anywhere but here.
    folder = Path("/proc/self/task")
    if not folder.is_dir():
        pytest.skip("needs a folder in which nobody can write")
    monkeypatch.setenv("nnUNet_raw", str(folder))
    with pytest.raises(SystemExit) as error:
        convert(tree, root, 701)
    assert f"nnUNet_raw={folder} is not writable" in sentence_of(error.value)


def test_missing_id_and_missing_raw_folder(tree, root, raw, monkeypatch):
    with pytest.raises(SystemExit) as error:
        main(["convert", tree.dataset, str(root)])
    assert "-d" in sentence_of(error.value) and names(raw) == []
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(SystemExit) as error:
        main(["convert", tree.dataset, str(root), "-d", "701"])
    assert "nnUNet_raw is not set" in sentence_of(error.value)


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from nnunet_sfma.cli import main
main(sys.argv[2:])
"""


@pytest.mark.parametrize(("name", "limit"), [("synapse", 1500), ("isic2017", 1500), ("glas", 3000)])
def test_full_disk_ends_the_real_program_with_one_sentence(raw, source, name, limit):
    """Files of the data set may not grow beyond the limit, which is what a full disk looks like to the writers."""
    tree = TREES[name]
    arguments = ["convert", tree.dataset, str(tree.build(source)), "-d", "701", "-np", "1"]
    command = [sys.executable, "-B", "-c", LIMITED, str(limit), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "free space" in done.stderr.splitlines()[-1]
    assert names(raw) == []


def test_real_program_ends_with_exit_code_1_and_one_line(raw, source):
    tree = TREES["glas"]
    root = tree.build(source)
    tree.mask_in(root).unlink()
    command = [sys.executable, "-m", "nnunet_sfma.cli", "convert", "glas", str(root), "-d", "701"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "train_1 has an image" in done.stderr
