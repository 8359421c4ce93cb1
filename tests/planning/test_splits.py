"""``nnunet-sfma splits``: who may be where, for every scheme, and what is refused."""

import hashlib
import json
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from dataset_conversion.cases import Case, Content
from dataset_conversion.common import write_dataset
from dataset_conversion.folds import five_folds
from dataset_conversion.raw_dataset import read_raw_dataset
from dataset_conversion.release import load_release
from nnunet_sfma.cli import main
from nnunet_sfma.errors import UserError
from tests.conftest import Workspace


@pytest.fixture
def space(tmp_path, monkeypatch) -> Workspace:
    """nnU-Net's three folders, empty."""
    made = Workspace(tmp_path)
    for name, folder in made.environment.items():
        Path(folder).mkdir()
        monkeypatch.setenv(name, folder)
    return made


def raw_dataset(
    space: Workspace, number: int, release: str, entries: dict[str, dict], layout: str = "database"
) -> Path:
    """The files of a converted data set that splits read; images and labels are empty files."""
    folder = space.raw / f"Dataset{number:03d}_Made"
    usual = {"split": "Tr", "part": "Training", "stratum": None, "foreground": 1.0, "empty_label": False}
    cases = {case: {**usual, "subject": case, **entry} for case, entry in entries.items()}
    for case, entry in cases.items():
        for name in entry.get("slices", [case]):
            for kind, suffix in (("images", "_0000"), ("labels", "")):
                place = folder / f"{kind}{entry['split']}"
                place.mkdir(parents=True, exist_ok=True)
                (place / f"{name}{suffix}.nii.gz").touch()
    (folder / "dataset.json").write_text(json.dumps({"file_ending": ".nii.gz"}))
    options = {"release": release, "layout": layout}
    (folder / "provenance.json").write_text(json.dumps({"options": options, "cases": cases}))
    return folder


def acdc(space: Workspace, patients=range(1, 101)) -> Path:
    """Two frames of each patient, five disease groups, and ten patients of the official test part."""
    groups = ("DCM", "HCM", "MINF", "NOR", "RV")
    entries = {
        f"patient{patient:03d}_frame{frame:02d}": {
            "subject": f"patient{patient:03d}",
            "stratum": groups[patient % 5],
            "foreground": float(patient * frame),
            **({"split": "Ts", "part": "Testing"} if patient > 100 else {}),
        }
        for patient in [*patients, *range(101, 111)]
        for frame in (1, 10)
    }
    return raw_dataset(space, 27, "acdc", entries)


def read(space: Workspace, name: str, folder: str = "Dataset027_Made"):
    return json.loads((space.preprocessed / folder / name).read_text())


def subjects(cases: list[str]) -> set[str]:
    return {case.split("_")[0] for case in cases}


def fails(*arguments: str) -> str:
    with pytest.raises(UserError) as error:
        main(["splits", *arguments])
    assert "\n" not in str(error.value)
    return str(error.value)


# Five folds


def test_five_folds_keep_subjects_together_and_groups_apart(space):
    acdc(space)
    main(["splits", "-d", "27", "--scheme", "five-fold"])
    folds = read(space, "splits_final.json")
    assert len(folds) == 5
    assert Counter(case for fold in folds for case in fold["val"]) == {
        f"patient{patient:03d}_frame{frame:02d}": 1 for patient in range(1, 101) for frame in (1, 10)
    }
    for fold in folds:
        assert subjects(fold["train"]).isdisjoint(subjects(fold["val"]))
        assert len(fold["train"]) == 160 and len(fold["val"]) == 40
        groups = Counter(int(subject[-3:]) % 5 for subject in subjects(fold["val"]))
        assert set(groups.values()) == {4}


def test_five_folds_balance_the_labelled_volume(space):
    volumes = {f"case{index:02d}": {"foreground": float(2**index)} for index in range(20)}
    raw_dataset(space, 27, "isles2022", volumes, "Zenodo release")
    main(["splits", "-d", "27", "--scheme", "five-fold"])
    for fold in read(space, "splits_final.json"):
        ranks = sorted(int(case[-2:]) // 5 for case in fold["val"])
        assert ranks == [0, 1, 2, 3]


def test_official_test_cases_are_in_no_fold(space, capsys):
    folder = acdc(space)
    main(["splits", "-d", "27", "--scheme", "five-fold"])
    used = {case for fold in read(space, "splits_final.json") for case in [*fold["train"], *fold["val"]]}
    record = read(space, "split_record.json")
    assert len(record["test"]) == 20 and used.isdisjoint(record["test"])
    assert record["test_images"] == str(folder / "imagesTs")
    assert f"nnUNetv2_predict -d 027 -c 2d -f 0 1 2 3 4 -tr TRAINER -p PLANS -i {folder / 'imagesTs'}" in (
        capsys.readouterr().out
    )


def test_slices_of_a_volume_stay_together(space):
    entries = {f"case{i}": {"slices": [f"case{i}_x{x:03d}" for x in range(3)]} for i in range(10)}
    raw_dataset(space, 27, "isles2022", entries, "Zenodo release")
    main(["splits", "-d", "27", "--scheme", "five-fold"])
    for fold in read(space, "splits_final.json"):
        assert len(fold["val"]) == 6 and subjects(fold["train"]).isdisjoint(subjects(fold["val"]))


def test_same_seed_same_folds(space):
    acdc(space)
    made = []
    for seed in ("1", "1", "2"):
        main(["splits", "-d", "27", "--scheme", "five-fold", "--seed", seed, "--overwrite"])
        made.append(read(space, "splits_final.json"))
    assert made[0] == made[1] != made[2]


def test_data_set_of_somebody_else_counts_each_case_as_a_subject(space, capsys):
    folder = raw_dataset(space, 27, "none", {f"case{index}": {} for index in range(7)})
    (folder / "provenance.json").unlink()
    main(["splits", "-d", "27", "--scheme", "five-fold"])
    assert sorted(case for fold in read(space, "splits_final.json") for case in fold["val"]) == [
        f"case{index}" for index in range(7)
    ]
    assert "each case counts as a subject" in capsys.readouterr().out


def test_too_few_subjects(space):
    raw_dataset(space, 27, "acdc", {f"a_{index}": {"subject": "one"} for index in range(10)})
    assert "1 subjects are too few" in fails("-d", "27", "--scheme", "five-fold")


def test_fewer_than_five_subjects_get_a_fold_each(space, capsys):
    raw_dataset(space, 27, "acdc", {f"p{index // 2}_{index}": {"subject": f"p{index // 2}"} for index in range(6)})
    main(["splits", "-d", "27", "--scheme", "five-fold"])
    folds = read(space, "splits_final.json")
    assert sorted(fold["val"] for fold in folds) == [["p0_0", "p0_1"], ["p1_2", "p1_3"], ["p2_4", "p2_5"]]
    assert "3 subjects are too few for five folds: there are 3; train folds 0 to 2." in capsys.readouterr().out


# The papers' divisions


def test_acdc_is_divided_by_the_published_list(space):
    acdc(space)
    main(["splits", "-d", "27", "--scheme", "paper"])
    (fold,) = read(space, "splits_final.json")
    test = read(space, "split_record.json")["test"]
    assert [len(subjects(side)) for side in (fold["train"], fold["val"], test)] == [70, 10, 20]
    assert [len(side) for side in (fold["train"], fold["val"], test)] == [140, 20, 40]
    assert "patient002" in subjects(test) and "patient019" in subjects(fold["val"])


def test_test_cases_among_the_training_cases_can_be_predicted_from_a_folder_of_their_own(space, capsys):
    folder = acdc(space)
    main(["splits", "-d", "27", "--scheme", "paper"])
    record = read(space, "split_record.json")
    links = sorted(Path(record["test_images"]).iterdir())
    assert [link.name for link in links] == [f"{case}_0000.nii.gz" for case in record["test"]]
    assert links[0].resolve() == (folder / "imagesTr" / links[0].name).resolve()
    assert len(list(Path(record["test_labels"]).iterdir())) == 40
    assert record["test_images"] in capsys.readouterr().out


def test_synapse_trains_18_and_tests_12(space, capsys):
    entries = {f"case{i:04d}": {} for i in [*range(1, 11), *range(21, 41)]}
    raw_dataset(space, 27, "synapse", entries, "RawData")
    main(["splits", "-d", "27", "--scheme", "paper"])
    (fold,) = read(space, "splits_final.json")
    test = read(space, "split_record.json")["test"]
    assert len(fold["train"]) == 18 and len(test) == 12 and set(fold["train"]).isdisjoint(test)
    assert sorted([*fold["train"], *test]) == sorted(entries)
    assert fold["val"] == fold["train"]
    assert "no validation set" in capsys.readouterr().out


def test_isic_2017_takes_the_official_parts(space):
    sizes = {"Training": 2000, "Validation": 150, "Test": 600}
    entries = {
        f"ISIC_{part}_{index:04d}": {"part": part, "split": "Ts" if part == "Test" else "Tr"}
        for part, size in sizes.items()
        for index in range(size)
    }
    raw_dataset(space, 27, "isic2017", entries, "official folders")
    main(["splits", "-d", "27", "--scheme", "paper"])
    (fold,) = read(space, "splits_final.json")
    test = read(space, "split_record.json")["test"]
    assert [len(side) for side in (fold["train"], fold["val"], test)] == [2000, 150, 600]
    assert all("Validation" in case for case in fold["val"]) and all("Test" in case for case in test)


def test_isic_2018_takes_the_sorted_list(space):
    split = load_release("isic2018").paper_split
    names = sorted([*split["train"], *split["val"], *split["test"]])
    raw_dataset(space, 27, "isic2018", dict.fromkeys(names, {}), "official folders")
    main(["splits", "-d", "27", "--scheme", "paper"])
    (fold,) = read(space, "splits_final.json")
    test = read(space, "split_record.json")["test"]
    assert [fold["train"], fold["val"], test] == [names[:1815], names[1815:2074], names[2074:]]
    assert len(test) == 520


def test_glas_keeps_its_official_division_though_patients_are_on_both_sides(space, capsys):
    sizes = {"Training": 85, "Test A": 60, "Test B": 20}
    entries = {
        f"{part[-1]}_{index}": {
            "part": part,
            "split": "Tr" if part == "Training" else "Ts",
            "subject": f"patient{index % 8}",
        }
        for part, size in sizes.items()
        for index in range(size)
    }
    raw_dataset(space, 27, "glas", entries, "Warwick QU")
    main(["splits", "-d", "27", "--scheme", "paper"])
    (fold,) = read(space, "splits_final.json")
    assert len(fold["train"]) == 85 and len(read(space, "split_record.json")["test"]) == 80
    assert "on both sides" in capsys.readouterr().out


def test_stroke_data_is_divided_8_1_1_by_subject(space):
    entries = {f"s{i:02d}_t{t}": {"subject": f"s{i:02d}", "foreground": float(i)} for i in range(50) for t in (1, 2)}
    raw_dataset(space, 27, "atlas", entries, "R1.2")
    main(["splits", "-d", "27", "--scheme", "paper", "--seed", "3"])
    (fold,) = read(space, "splits_final.json")
    sides = [subjects(side) for side in (fold["train"], fold["val"], read(space, "split_record.json")["test"])]
    assert [len(side) for side in sides] == [40, 5, 5]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]


@pytest.mark.parametrize(
    ("release", "layout", "said"),
    [("glas", "Warwick QU", "6 of the 85 cases"), ("synapse", "RawData", "lacks 30 of the 30 subjects")],
)
def test_part_of_a_release_is_not_divided_as_in_the_paper(space, release, layout, said):
    raw_dataset(space, 27, release, {f"case{index}": {} for index in range(6)}, layout)
    assert said in fails("-d", "27", "--scheme", "paper")
    assert not (space.preprocessed / "Dataset027_Made").exists()


def test_data_set_of_no_paper_has_no_paper_scheme(space):
    folder = raw_dataset(space, 27, "none", {f"case{index}": {} for index in range(7)})
    (folder / "provenance.json").unlink()
    assert "five-fold" in fails("-d", "27", "--scheme", "paper")


@pytest.mark.parametrize(
    ("name", "counts"), [("acdc", (70, 10, 20)), ("synapse", (18, 0, 12)), ("isic2018", (1815, 259, 520))]
)
def test_published_lists_have_the_published_lengths_and_do_not_overlap(name, counts):
    split = load_release(name).paper_split
    sides = [split[side] or [] for side in ("train", "val", "test")]
    assert tuple(map(len, sides)) == counts
    assert len({subject for side in sides for subject in side}) == sum(counts)
    assert split["source"]


# What is kept


def test_record_names_source_seed_and_checksum(space, capsys):
    acdc(space)
    main(["splits", "-d", "27", "--scheme", "paper"])
    record = read(space, "split_record.json")
    (fold,) = read(space, "splits_final.json")
    expected = hashlib.sha256(json.dumps([[{"train": fold["train"], "val": fold["val"]}], record["test"]]).encode())
    assert record["sha256"] == expected.hexdigest() and record["sha256"] in capsys.readouterr().out
    assert "AgileFormer" in record["source"] and record["scheme"] == "paper"


def test_other_splits_are_replaced_only_on_demand(space):
    acdc(space)
    main(["splits", "-d", "27", "--scheme", "paper"])
    before = read(space, "splits_final.json")
    main(["splits", "-d", "27", "--scheme", "paper"])
    assert "exists and differs" in fails("-d", "27", "--scheme", "five-fold")
    assert read(space, "splits_final.json") == before and read(space, "split_record.json")["scheme"] == "paper"
    main(["splits", "-d", "27", "--scheme", "five-fold", "--overwrite"])
    assert len(read(space, "splits_final.json")) == 5
    assert not (space.preprocessed / "Dataset027_Made" / "test_split").exists()


def test_conversion_and_splits_agree_on_what_is_kept(space):
    """The subjects that a conversion writes are the ones that the folds keep together."""

    def content(index: int) -> Content:
        image = sitk.GetImageFromArray(np.full((2, 3, 4), index + 1, np.float32))
        return Content([image], image > 1000)

    cases = [
        Case(f"p{i}_{time}", partial(content, 2 * i + time), subject=f"p{i}", stratum="ab"[i % 2])
        for i in range(10)
        for time in (0, 1)
    ]
    write_dataset(
        27,
        "Made",
        cases,
        {"0": "MRI"},
        {"background": 0, "lesion": 1},
        provenance={"release": "atlas", "layout": "R1.2"},
    )
    main(["splits", "-d", "27", "--scheme", "five-fold"])
    for fold in read(space, "splits_final.json"):
        assert sorted(int(subject[1:]) % 2 for subject in subjects(fold["val"])) == [0, 1]
        assert subjects(fold["train"]).isdisjoint(subjects(fold["val"]))


# The check


def change(space: Workspace, edit) -> None:
    path = space.preprocessed / "Dataset027_Made" / "splits_final.json"
    folds = json.loads(path.read_text())
    edit(folds)
    path.write_text(json.dumps(folds))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda folds: folds[0]["train"].append("patient019_frame01"), "trains and validates on patient019"),
        (lambda folds: folds[0]["train"].append("patient002_frame01"), "holds the test case patient002_frame01"),
        (lambda folds: folds[0]["val"].append("patient777_frame01"), "names patient777_frame01, which is not in"),
        (lambda folds: folds[0]["val"].append("patient019_frame01"), "names a case twice"),
        (lambda folds: folds[0].pop("val"), "is damaged"),
        (lambda folds: folds[0]["train"].append(["a"]), "is damaged"),
        (lambda folds: folds.clear(), "is damaged"),
        (lambda folds: folds[0].update(val=[]), "Fold 0 (val) is empty"),
    ],
)
def test_check_refuses(space, edit, said):
    acdc(space)
    main(["splits", "-d", "27", "--scheme", "paper"])
    change(space, edit)
    assert said in fails("-d", "27", "--check")


def test_check_refuses_a_subject_of_whom_there_are_test_cases(space):
    entries = {f"case{index}": {} for index in range(9)}
    entries["again"] = {"subject": "case0", "split": "Ts", "part": "Testing"}
    raw_dataset(space, 27, "acdc", entries)
    assert "of whom there are test cases" in fails("-d", "27", "--scheme", "five-fold")


def test_check_accepts_what_was_made_and_tells_of_changes(space, capsys):
    acdc(space)
    main(["splits", "-d", "27", "--scheme", "paper"])
    capsys.readouterr()
    main(["splits", "-d", "27", "--check"])
    said = capsys.readouterr().out
    assert read(space, "split_record.json")["sha256"] in said and "was changed" not in said
    change(space, lambda folds: folds[0]["train"].remove("patient001_frame01"))
    main(["splits", "-d", "27", "--check"])
    said = capsys.readouterr().out
    assert "was changed" in said and "1 training cases are in no fold" in said


def test_check_refuses_a_fold_that_validates_on_its_training_cases(space):
    """Only the paper's schemes without a validation set may."""
    acdc(space)
    main(["splits", "-d", "27", "--scheme", "five-fold"])
    change(space, lambda folds: folds[0].update(val=folds[0]["train"]))
    assert "trains and validates on" in fails("-d", "27", "--check")


def test_check_tells_of_test_images_that_moved(space, monkeypatch):
    acdc(space)
    main(["splits", "-d", "27", "--scheme", "paper"])
    moved = space.raw.rename(space.root / "moved")
    monkeypatch.setenv("nnUNet_raw", str(moved))
    assert "point nowhere" in fails("-d", "27", "--check")


@pytest.mark.parametrize("name", ["dataset.json", "provenance.json"])
@pytest.mark.parametrize("text", ["{", "{}", "[]", "null", '{"options": {"release": "acdc"}, "cases": {"a": {}}}'])
def test_damaged_data_set_ends_in_one_sentence(space, name, text):
    folder = acdc(space)
    (folder / name).write_text(text)
    assert "is no complete raw data set" in fails("-d", "27", "--scheme", "five-fold")


def test_damaged_splits_are_replaced_on_demand(space):
    acdc(space)
    main(["splits", "-d", "27", "--scheme", "five-fold"])
    path = space.preprocessed / "Dataset027_Made" / "splits_final.json"
    path.write_text("[{")
    assert "is damaged" in fails("-d", "27", "--scheme", "five-fold")
    main(["splits", "-d", "27", "--scheme", "five-fold", "--overwrite"])
    assert len(read(space, "splits_final.json")) == 5


def test_negative_seed(space):
    acdc(space)
    assert "--seed -1" in fails("-d", "27", "--scheme", "five-fold", "--seed", "-1")


def test_splits_that_the_conversion_shipped_are_replaced_in_both_places_until_something_is_trained(space, capsys):
    """nnU-Net's planner takes them from the raw data set, and insists that both places agree."""
    folder = acdc(space)
    shipped = json.dumps(five_folds(read_raw_dataset(folder).training))
    preprocessed = space.preprocessed / "Dataset027_Made"
    preprocessed.mkdir()
    for place in (folder, preprocessed):
        (place / "splits_final.json").write_text(shipped)
    (space.results / "Dataset027_Made").mkdir()
    assert "exists and differs" in fails("-d", "27", "--scheme", "paper")
    (space.results / "Dataset027_Made").rmdir()
    main(["splits", "-d", "27", "--scheme", "paper"])
    assert json.loads((folder / "splits_final.json").read_text()) == read(space, "splits_final.json")
    said = capsys.readouterr().out
    for place in (folder, preprocessed):
        assert (place / "splits_final.json.bak").read_text() == shipped
        assert f"kept as {place / 'splits_final.json.bak'}" in said


def test_splits_that_an_earlier_version_shipped_are_known_as_such(space):
    """It balanced no numbers of cases and noted nothing; two subjects are one, as the user has declared since."""
    scans = {f"s{index}_{scan}": {"subject": f"s{index}"} for index in range(7) for scan in range(1 + index % 3)}
    folder = raw_dataset(space, 27, "acdc", scans)
    parts = ("s2_0 s2_1 s2_2", "s4_0 s4_1", "s3_0 s6_0", "s1_0 s1_1", "s0_0 s5_0 s5_1 s5_2")
    shipped = [{"train": sorted({*scans} - {*part.split()}), "val": part.split()} for part in parts]
    declared = {case: entry["subject"].replace("s6", "s0") for case, entry in scans.items()}
    (folder / "subjects.json").write_text(json.dumps(declared))
    (folder / "splits_final.json").write_text(json.dumps(shipped[::-1]))
    assert "exists and differs" in fails("-d", "27", "--scheme", "five-fold")
    (folder / "splits_final.json").write_text(json.dumps(shipped))
    main(["splits", "-d", "27", "--scheme", "five-fold"])
    assert read(space, "splits_final.json") != shipped


@pytest.mark.parametrize("planned", [True, False], ids=["in both places", "not planned yet"])
def test_splits_of_the_user_are_replaced_only_on_demand_and_kept(space, capsys, planned):
    folder, preprocessed = acdc(space), space.preprocessed / "Dataset027_Made"
    own = json.dumps([{"train": ["patient001_frame01"], "val": ["patient002_frame01"]}])
    preprocessed.mkdir()
    places = [folder, preprocessed] if planned else [folder]
    for place in places:
        (place / "splits_final.json").write_text(own)
    assert "exists and differs" in fails("-d", "27", "--scheme", "five-fold")
    assert all((place / "splits_final.json").read_text() == own for place in places)
    for number, seed in enumerate(("1", "2")):
        before = (folder / "splits_final.json").read_text()
        main(["splits", "-d", "27", "--scheme", "five-fold", "--overwrite", "--seed", seed])
        copy = folder / f"splits_final.json.bak{number or ''}"
        assert copy.read_text() == before and f"kept as {copy}" in capsys.readouterr().out
    assert [path.read_text() for path in sorted(folder.glob("*.bak"))] == [own]


def test_check_sees_the_folds_that_the_conversion_shipped(space, capsys):
    folder = acdc(space)
    shipped = five_folds(read_raw_dataset(folder).training)
    (folder / "splits_final.json").write_text(json.dumps(shipped))
    main(["splits", "-d", "27", "--check"])
    said = capsys.readouterr().out
    assert "fold 4: train 160 cases (subjects: 80), validate 40 cases (subjects: 20)" in said
    assert f"nnU-Net has not planned yet and will copy these splits from {folder / 'splits_final.json'}" in said
    main(["splits", "-d", "27", "--scheme", "paper"])
    (folder / "splits_final.json").write_text(json.dumps(shipped))
    capsys.readouterr()
    main(["splits", "-d", "27", "--check"])
    assert f"{folder / 'splits_final.json'} holds other splits" in capsys.readouterr().out


# Declared subjects


def slabs(space: Workspace) -> Path:
    """47 slabs of 6 patients, converted by somebody else."""
    folder = raw_dataset(space, 27, "none", {f"slab{index:02d}": {} for index in range(47)})
    (folder / "provenance.json").unlink()
    return folder


def declare(folder: Path, **changes) -> dict[str, str]:
    declared = {f"slab{index:02d}": f"patient{index % 6}" for index in range(47)} | changes
    (folder / "subjects.json").write_text(json.dumps({case: who for case, who in declared.items() if who}))
    return declared


def test_check_says_that_it_cannot_judge_without_subjects(space, capsys):
    folder = slabs(space)
    main(["splits", "-d", "27", "--scheme", "five-fold"])
    said = capsys.readouterr().out
    assert "each case counts as a subject of its own" in said and "subjects:" not in said
    main(["splits", "-d", "27", "--check"])
    said = capsys.readouterr().out
    assert "cannot be judged whether somebody is both trained and validated on: write a subjects.json" in said
    assert "subjects:" not in said
    declare(folder)
    assert "trains and validates on patient" in fails("-d", "27", "--check")


def test_declared_subjects_stay_together(space, capsys):
    declared = declare(slabs(space))
    main(["splits", "-d", "27", "--scheme", "five-fold"])
    folds = read(space, "splits_final.json")
    sides = [({declared[case] for case in fold[side]} for side in ("train", "val")) for fold in folds]
    assert len(folds) == 5 and all(train.isdisjoint(val) for train, val in sides)
    main(["splits", "-d", "27", "--check"])
    said = capsys.readouterr().out
    assert "cannot be judged" not in said and "(subjects: 5)" in said


def test_declared_subjects_count_more_than_provenance(space):
    folder = acdc(space)
    cases = {path.name[:-7] for path in (folder / "labelsTr").iterdir()}
    pairs = {case: f"pair{(int(case[7:10]) - 1) // 2}" for case in cases}
    (folder / "subjects.json").write_text(json.dumps(pairs))
    main(["splits", "-d", "27", "--scheme", "five-fold"])
    for fold in read(space, "splits_final.json"):
        assert {pairs[case] for case in fold["train"]}.isdisjoint({pairs[case] for case in fold["val"]})


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"slab03": None, "slab40": None}, "lacks 2 of the 47 training cases (slab03, slab40)"),
        ({"slab03": 3}, "is damaged (slab03: 3 is not of type 'string')"),
        ({"../slab": "x"}, "is damaged"),
    ],
)
def test_subjects_that_cannot_be_used_are_refused(space, changes, said):
    declare(slabs(space), **changes)
    assert said in fails("-d", "27", "--scheme", "five-fold")


def test_slices_that_were_chosen_by_their_labels_are_named(space, capsys):
    folder = acdc(space)
    provenance = json.loads((folder / "provenance.json").read_text())
    provenance["options"]["paper_slices"] = "lesion"
    (folder / "provenance.json").write_text(json.dumps(provenance))
    main(["splits", "-d", "27", "--scheme", "five-fold"])
    assert "chosen by their labels" in capsys.readouterr().out


def test_check_without_splits(space):
    acdc(space)
    assert "does not exist" in fails("-d", "27", "--check")
