"""Synapse / BTCV: abdominal CT with 13 organs, of which a benchmark uses 8.

    RawData/Training/img/img0001.nii.gz, RawData/Training/label/label0001.nii.gz, RawData/Testing/img/img0061.nii.gz

Three label maps stand in ``releases/synapse.json``, by organ name: TransUNet's and CASCADE's numbering of the 8 organs,
which are often mixed up, and the full 13 labels. Orientation and spacing stay the scanner's.
"""

from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from dataset_conversion.cases import Case, Content
from dataset_conversion.found import Found
from dataset_conversion.image_files import copy_grid, format_values, read_volume
from dataset_conversion.masks import with_whole_numbers
from dataset_conversion.release import load_release
from dataset_conversion.release_files import by_key, in_pairs, is_testing, list_files, nothing_found, only_one
from dataset_conversion.whole_images import prepare_volumes
from nnunet_sfma.errors import UserError

RELEASE = load_release("synapse")
DATASET_NAMES = {"transunet": "Synapse", "cascade": "Synapse_CASCADE", "full": "Synapse_13"}


def find(source: Path, labels: str = "transunet", size: int = 0) -> Found:
    """The scans of the release; reads no image.

    Args:
        source: the folder RawData, or one that holds it.
        labels: ``transunet``, ``cascade`` or ``full``.
        size: sides in voxels that whole slices are resized to; 0 keeps the full resolution.

    Raises:
        UserError: if the label map is unknown, the size is out of range or no release is found.
    """
    if labels not in RELEASE.label_maps:
        raise UserError(f"'{labels}' is no label map of Synapse; choose one of {', '.join(RELEASE.label_maps)}.")
    files = list_files(source, RELEASE)
    found = Found(
        RELEASE,
        Path(source),
        "RawData",
        DATASET_NAMES[labels],
        {"0": "CT"},
        dict(RELEASE.label_maps[labels]),
        options={"labels": labels},
    )
    prepare_volumes(found, size)
    images = only_one(by_key(files, r"img(\d{4})\.nii(?:\.gz)?"), found.problems)
    masks = only_one(by_key(files, r"label(\d{4})\.nii(?:\.gz)?"), found.problems)
    if not images and not masks:
        raise nothing_found(source, RELEASE)
    testing = {number for number, path in images.items() if is_testing(path, source) and number not in masks}
    for number in in_pairs(set(images) - testing, masks, found.problems):
        load = partial(_load, images[number], masks[number], labels)
        found.cases.append(Case(f"case{number}", load, (images[number], masks[number])))
    found.test_cases = [
        Case.from_files(f"case{number}", [images[number]], part="Testing") for number in sorted(testing)
    ]
    return found


def _load(image_path: Path, label_path: Path, label_map: str) -> Content:
    label = with_whole_numbers(read_volume(label_path))
    original = sitk.GetArrayViewFromImage(label)
    table = _table(label_map)
    unknown = [value for value in np.unique(original).tolist() if value not in range(len(table))]
    if unknown:
        raise UserError(
            f"The label {label_path} has the values {format_values(unknown[:10])}, but only 0 to {len(table) - 1} are "
            "defined; replace it by the released file."
        )
    mapped = sitk.GetImageFromArray(table[original.astype(np.intp)])
    return Content([read_volume(image_path)], copy_grid(mapped, label))


def _table(label_map: str) -> np.ndarray:
    """The new value of each of the 14 original ones, found by the organ's name."""
    new = RELEASE.label_maps[label_map]
    return np.array([new.get(organ, 0) for organ in RELEASE.label_maps["full"]], np.uint8)
