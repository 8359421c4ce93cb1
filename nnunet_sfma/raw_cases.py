"""The training cases of a data set in nnUNet_raw, under the names that nnU-Net gives them."""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from nnunet_sfma.nnunet_files import read_dataset_json


@dataclass(frozen=True)
class RawCase:
    """The files of one case.

    Attributes:
        images: one for each channel.
        label: its segmentation.
        copy: the name of the label's copy in ``gt_segmentations``, against which nnU-Net evaluates.
    """

    images: tuple[Path, ...]
    label: Path
    copy: str


def raw_cases(folder: Path) -> dict[str, RawCase]:
    """Return the training cases of a folder in nnUNet_raw by identifier; none where the folder is not there.

    nnU-Net's own listing starts a dozen processes each time it is called.

    Raises:
        UserError: if dataset.json is damaged.
    """
    if not (folder / "dataset.json").is_file():
        return {}
    description = read_dataset_json(folder / "dataset.json")
    ending = description["file_ending"]
    if "dataset" in description:
        return _listed(folder, description, ending)
    images = defaultdict(list)
    image = re.compile(rf"(.+)_\d{{4}}{re.escape(ending)}")
    for path in sorted((folder / "imagesTr").glob("*")):
        if match := image.fullmatch(path.name):
            images[match[1]].append(path)
    return {
        case: RawCase(tuple(paths), folder / "labelsTr" / f"{case}{ending}", f"{case}{ending}")
        for case, paths in images.items()
    }


def _listed(folder: Path, description: dict, ending: str) -> dict[str, RawCase]:
    """The cases of a dataset.json that names every file."""
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    found = get_filenames_of_train_images_and_targets(str(folder), description)
    return {
        case: RawCase(tuple(map(Path, files["images"])), Path(files["label"]), f"{case}{ending}")
        for case, files in found.items()
    }
