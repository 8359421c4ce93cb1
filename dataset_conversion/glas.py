"""GlaS (Warwick QU): glands in H&E-stained colon, one instance number for each gland.

    Warwick QU Dataset (Released 2016_07_08)/train_1.bmp, train_1_anno.bmp, ..., testA_1.bmp, testB_1.bmp, Grade.csv

The label is instance number > 0; touching glands merge, so the instance map is kept beside it (instancesTr,
instancesTs) for object metrics. ``Grade.csv`` tells patient and grade of each image: folds keep patients together and
balance grades.
"""

import csv
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from dataset_conversion.cases import Case, Content
from dataset_conversion.found import Found
from dataset_conversion.pictures import check_same_size, open_picture, to_rgb_image
from dataset_conversion.release import load_release
from dataset_conversion.release_files import by_key, in_pairs, list_files, nothing_found, only_one
from dataset_conversion.whole_images import check_size, prepare_pictures, resize_pictures
from nnunet_sfma.errors import UserError

RELEASE = load_release("glas")
PARTS = {"train": "Training", "testa": "Test A", "testb": "Test B"}


def find(source: Path, size: int = 0) -> Found:
    """The images of the release; reads ``Grade.csv`` but no image.

    Args:
        source: the folder with the images, or one that holds it.
        size: sides in pixels that image, label and instance map are resized to; 0 keeps the full resolution.

    Raises:
        UserError: if the size is out of range, no release is found or ``Grade.csv`` cannot be read.
    """
    check_size(size)
    files = list_files(source, RELEASE)
    found = Found(
        RELEASE,
        Path(source),
        "Warwick QU",
        f"GlaS_{size}" if size else "GlaS",
        {"0": "R", "1": "G", "2": "B"},
        dict(RELEASE.label_maps["gland"]),
        file_ending=".png",
    )
    if size:
        prepare_pictures(found, size)
    images = only_one(by_key(files, r"((?:train|testA|testB)_\d+)\.bmp"), found.problems)
    masks = only_one(by_key(files, r"((?:train|testA|testB)_\d+)_anno\.bmp"), found.problems)
    if not images and not masks:
        raise nothing_found(source, RELEASE)
    grades = _grades(files, found)
    for name in sorted(in_pairs(images, masks, found.problems), key=_number):
        part = PARTS[name.split("_")[0].lower()]
        patient, grade = grades.get(name, (None, None))
        load = partial(_load, images[name], masks[name], size)
        case = Case(name, load, (images[name], masks[name]), part, patient, grade)
        (found.cases if part == "Training" else found.test_cases).append(case)
    unknown = [case.identifier for case in found.cases + found.test_cases if grades and not case.subject]
    if unknown:
        found.notes.append(f"Grade.csv does not name {', '.join(unknown)}: folds treat each as a patient of its own.")
    return found


def _number(name: str) -> tuple[str, int]:
    part, _, number = name.rpartition("_")
    return part, int(number)


def _grades(files: list[Path], found: Found) -> dict[str, tuple[str, str]]:
    """Patient and grade by image name."""
    tables = [path for path in files if path.name.lower() == "grade.csv" and path.is_file()]
    if not tables:
        found.notes.append("Grade.csv is not there, so patients and grades are unknown: folds will be by image.")
        return {}
    try:
        with tables[0].open(newline="", encoding="utf-8-sig") as file:
            header, *rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(row)]
        columns = [column.lower() for column in header]
        name, patient = columns.index("name"), columns.index("patient id")
        grade = next(index for index, column in enumerate(columns) if column.startswith("grade"))
        return {row[name]: (f"patient{row[patient]}", row[grade]) for row in rows}
    except (ValueError, IndexError, StopIteration, csv.Error):
        raise UserError(
            f"{tables[0]} has not the columns 'name', 'patient ID' and 'grade'; replace it by the released file."
        ) from None


def _load(image_path: Path, anno_path: Path, size: int) -> Content:
    picture, anno = open_picture(image_path), open_picture(anno_path)
    check_same_size(picture, image_path, anno, anno_path)
    instances = np.asarray(anno)
    if instances.ndim != 2:
        raise UserError(
            f"The annotation {anno_path} has colours instead of gland numbers; replace it by the released file."
        )
    label = (instances > 0).astype(np.uint8)
    extras = {"instances": sitk.GetImageFromArray(instances.astype(np.uint16 if instances.max() > 255 else np.uint8))}
    content = Content([to_rgb_image(picture)], sitk.GetImageFromArray(label), extras)
    return resize_pictures(content, size) if size else content
