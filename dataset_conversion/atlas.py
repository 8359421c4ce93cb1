"""ATLAS: T1-weighted MRI of chronic stroke with lesions traced by hand, in three releases with three layouts.

    R1.1    ATLAS_R1.1/Site*/03XXXX/tNN/03XXXX_t1w_deface_stx.nii.gz
            03XXXX_LesionSmooth_stx.nii.gz, 03XXXX_LesionSmooth_1_stx.nii.gz, ...
    R1.2    c00NN/c00NNsSSSStTT/c00NNsSSSStTT_t1w_stx.nii.gz
            c00NNsSSSStTT_LesionSmooth_stx.nii.gz, c00NNsSSSStTT_LesionSmooth_1_stx.nii.gz, ...
    R2.0    Training/R0NN/sub-r0NNsNNN/ses-N/anat/sub-r0NNsNNN_ses-N_space-MNI152NLin2009aSym_T1w.nii.gz
            ..._space-MNI152NLin2009aSym_label-L_desc-T1lesion_mask.nii.gz; Testing/... without masks

A scan has a mask for each lesion; the label is the union of all that is above 0. Some subjects were scanned twice: a
case is a scan, and its subject is kept for the folds.
"""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from dataset_conversion.cases import Case, Content
from dataset_conversion.found import Found
from dataset_conversion.image_files import copy_grid, grid_difference, read_volume
from dataset_conversion.release import load_release
from dataset_conversion.release_files import by_key, in_pairs, is_testing, list_files, nothing_found, only_one
from nnunet_sfma.errors import UserError

RELEASE = load_release("atlas")


@dataclass(frozen=True)
class Layout:
    """File names of one release: the first group is the scan, ``subject`` finds the subject in it."""

    dataset_name: str
    image: str
    mask: str
    subject: str


LAYOUTS = {
    "R1.1": Layout(
        "ATLAS_R1_1",
        r"(03\d{4})_t1w_deface_stx\.nii(?:\.gz)?",
        r"(03\d{4})_LesionSmooth(?:_\d+)?_stx\.nii(?:\.gz)?",
        r"03\d{4}",
    ),
    "R1.2": Layout(
        "ATLAS_R1_2",
        r"(c\d{4}s\d{4}t\d{2})_t1w_stx\.nii(?:\.gz)?",
        r"(c\d{4}s\d{4}t\d{2})_LesionSmooth(?:_\d+)?_stx\.nii(?:\.gz)?",
        r"c\d{4}s\d{4}",
    ),
    "R2.0": Layout(
        "ATLAS_R2_0",
        r"(sub-r\d+s\d+_ses-\d+)_space-MNI152NLin2009aSym_T1w\.nii(?:\.gz)?",
        r"(sub-r\d+s\d+_ses-\d+)_space-MNI152NLin2009aSym_(?:label-\w+_)?desc-T1lesion_mask\.nii(?:\.gz)?",
        r"sub-r\d+s\d+",
    ),
}


def find(source: Path) -> Found:
    """The scans of a release; reads no image.

    Raises:
        UserError: if no release is found, or several.
    """
    files = list_files(source, RELEASE)
    name = _layout(source, files)
    layout = LAYOUTS[name]
    found = Found(RELEASE, Path(source), name, layout.dataset_name, {"0": "T1w"}, dict(RELEASE.label_maps["lesion"]))
    scans = _by_scan(by_key(files, layout.image))
    masks = _by_scan(by_key(files, layout.mask))
    images = only_one(scans, found.problems)
    has_testing = "Testing" in RELEASE.totals[name]
    without_masks = {s for s, path in images.items() if has_testing and is_testing(path, source) and s not in masks}
    for scan in in_pairs(set(images) - without_masks, masks, found.problems):
        found.cases.append(_case(scan, images[scan], masks[scan], layout))
    found.test_cases = [
        Case.from_files(_identifier(scan), [images[scan]], part="Testing", subject=_subject(scan, layout))
        for scan in sorted(without_masks)
    ]
    return found


def _layout(source: Path, files: list[Path]) -> str:
    names = [name for name, layout in LAYOUTS.items() if by_key(files, layout.image) or by_key(files, layout.mask)]
    if not names:
        raise nothing_found(source, RELEASE)
    if len(names) > 1:
        raise UserError(f"{source} holds several releases of ATLAS ({', '.join(names)}); give the folder of one.")
    return names[0]


def _by_scan(files: dict[str, list[Path]]) -> dict[str, list[Path]]:
    """R1.1 tells a subject's scans apart by their folder alone, t01, t02, ...: it becomes a part of the key."""
    scans: dict[str, list[Path]] = {}
    for key, paths in files.items():
        for path in paths:
            time = path.parent.name if re.fullmatch(r"t\d{2}", path.parent.name) else None
            scans.setdefault(f"{key}_{time}" if time else key, []).append(path)
    return scans


def _case(scan: str, image: Path, masks: list[Path], layout: Layout) -> Case:
    masks = sorted(masks)
    load = partial(_load, image, tuple(masks))
    return Case(_identifier(scan), load, (image, *masks), "Training", _subject(scan, layout))


def _identifier(scan: str) -> str:
    return scan.removeprefix("sub-")


def _subject(scan: str, layout: Layout) -> str:
    return re.match(layout.subject, scan, re.IGNORECASE)[0].removeprefix("sub-")


def _load(image_path: Path, mask_paths: tuple[Path, ...]) -> Content:
    image = read_volume(image_path)
    union = np.zeros(image.GetSize()[::-1], np.uint8)
    for path in mask_paths:
        mask = read_volume(path)
        difference = grid_difference(mask, image)
        if difference:
            raise UserError(
                f"The mask {path} and the image {image_path.name} lie on different grids ({difference}); check that "
                "both are from the normalised (standard space) release, or exclude the case."
            )
        union |= sitk.GetArrayViewFromImage(mask) > 0
    return Content([image], copy_grid(sitk.GetImageFromArray(union), image))
