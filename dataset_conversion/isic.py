"""What ISIC 2017 and 2018 have in common: photographs and masks in folders named after the parts of the challenge.

Only ``ISIC_*.jpg`` are images; superpixels (png) and tables lie in the same folders and are left alone. Masks of other
scales than 0 and 255 are told apart by :mod:`dataset_conversion.masks`. Images and masks become lossless png: nnU-Net
refuses jpg.
"""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import SimpleITK as sitk  # noqa: N813

from dataset_conversion.cases import Case, Content
from dataset_conversion.found import Found
from dataset_conversion.masks import mask_of_picture
from dataset_conversion.pictures import check_same_size, open_picture, to_rgb_image
from dataset_conversion.release import Release
from dataset_conversion.release_files import by_key, in_pairs, list_files, nothing_found, only_one
from dataset_conversion.whole_images import check_size, prepare_pictures, resize_pictures


@dataclass(frozen=True)
class Challenge:
    """One year's challenge.

    Attributes:
        images: regular expression of the folders with photographs; its group is the part.
        masks: the same for the folders with masks.
        training: the parts that nnU-Net may train and validate on; all others are test cases.
    """

    release: Release
    dataset_name: str
    images: str
    masks: str
    training: tuple[str, ...]


def find_challenge(challenge: Challenge, source: Path, size: int = 256) -> Found:
    """The photographs of a challenge; reads none.

    Args:
        challenge: which year.
        source: the folder with the challenge's folders.
        size: sides in pixels that image and mask are resized to; 0 keeps the full resolution.

    Raises:
        UserError: if the size is out of range or no release is found.
    """
    check_size(size)
    files = list_files(source, challenge.release)
    found = Found(
        challenge.release,
        Path(source),
        "official folders",
        challenge.dataset_name if size else f"{challenge.dataset_name}_full",
        {"0": "R", "1": "G", "2": "B"},
        dict(challenge.release.label_maps["lesion"]),
        options={"size": 0},
        file_ending=".png",
    )
    if size:
        prepare_pictures(found, size)
    images, image_parts = _in_folders(files, challenge.images, r"(ISIC_\d{7})\.jpe?g", found.problems)
    masks, _ = _in_folders(files, challenge.masks, r"(ISIC_\d{7})_segmentation\.png", found.problems)
    if not images and not masks:
        raise nothing_found(source, challenge.release)
    for name in in_pairs(images, masks, found.problems):
        part = image_parts[name]
        case = Case(name, partial(_load, images[name], masks[name], size), (images[name], masks[name]), part)
        (found.cases if part in challenge.training else found.test_cases).append(case)
    return found


def _in_folders(
    files: list[Path], folder: str, name: str, problems: list[str]
) -> tuple[dict[str, Path], dict[str, str]]:
    """Files by name, and the part that each belongs to, told by the nearest folder of that kind."""
    expression = re.compile(folder, re.IGNORECASE)
    parts = {path: _part(path, expression) for path in files}
    found = only_one(by_key((path for path in files if parts[path]), name), problems)
    return found, {key: parts[path] for key, path in found.items()}


def _part(path: Path, folder: re.Pattern) -> str | None:
    for parent in path.parents:
        match = folder.fullmatch(parent.name)
        if match:
            return match[1].split("_")[0].capitalize()
    return None


def _load(image_path: Path, mask_path: Path, size: int) -> Content:
    picture, mask = open_picture(image_path), open_picture(mask_path)
    check_same_size(picture, image_path, mask, mask_path)
    label, notes = mask_of_picture(mask, mask_path)
    content = Content([to_rgb_image(picture)], sitk.GetImageFromArray(label), notes=notes)
    return resize_pictures(content, size) if size else content
