"""One case of a data set, as nnU-Net's preprocessing hands it to the network."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunet_sfma.errors import UserError
from nnunet_sfma.prediction.reading import UnusableImageError, read_images, refuse_cut_off
from nnunet_sfma.sentences import last_line


@dataclass(frozen=True)
class CaseFiles:
    """The files of a case.

    Attributes:
        images: one for each channel.
        label: None if nobody has labelled it.
    """

    images: list[Path]
    label: Path | None


@dataclass(frozen=True)
class Volume:
    """A preprocessed case: transposed, cropped to what is not zero, normalised and resampled by nnU-Net.

    Attributes:
        image: (channels, slices, H, W), float32.
        label: (slices, H, W), or None.
        first_slice: index of its first slice in the image file, along the plans' slice axis.
        pixel_aspect: height of a pixel divided by its width.
    """

    image: np.ndarray
    label: np.ndarray | None
    first_slice: int
    pixel_aspect: float


def find_case(dataset_folder: Path, case: str, dataset_json: dict) -> CaseFiles:
    """Find a case among a raw data set's training cases and then its test cases.

    Args:
        dataset_folder: ``nnUNet_raw/DatasetXXX_Name``.
        case: its identifier, the file name without ``_0000`` and ending.
        dataset_json: the data set's description.

    Raises:
        UserError: if it is in neither.
    """
    if "dataset" in dataset_json:  # the data set lists its files, which lie wherever they are
        listed = get_filenames_of_train_images_and_targets(str(dataset_folder), dataset_json).get(case)
        if listed:
            return CaseFiles([Path(path) for path in listed["images"]], Path(listed["label"]))
    ending = dataset_json["file_ending"]
    pattern = re.compile(re.escape(case) + r"_\d{4}" + re.escape(ending))
    for part in ("Tr", "Ts"):
        folder = dataset_folder / f"images{part}"
        images = sorted(path for path in folder.glob(f"*{ending}") if pattern.fullmatch(path.name))
        if images:
            label = dataset_folder / f"labels{part}" / f"{case}{ending}"
            return CaseFiles(images, label if label.is_file() else None)
    meant = _similar(case, dataset_folder, ending)
    raise UserError(
        f"There is no case '{case}' in imagesTr or imagesTs of {dataset_folder}{meant}: give a file's name without "
        f"_0000{ending}."
    )


def _similar(case: str, dataset_folder: Path, ending: str) -> str:
    """A clause that names the case that was probably meant."""
    first_channel = f"_0000{ending}"
    cases = [path.name.removesuffix(first_channel) for path in dataset_folder.glob(f"images*/*{first_channel}")]
    nearest = get_close_matches(case, cases, n=1, cutoff=0.7)
    return f" (did you mean {nearest[0]}?)" if nearest else ""


def read_case(files: CaseFiles, predictor: nnUNetPredictor) -> Volume:
    """Read and preprocess a case as the predictor's plans say.

    Raises:
        UserError: if a file cannot be read, holds a value that is not finite, or does not fit the others.
    """
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    channels = len(predictor.configuration_manager.normalization_schemes)
    plans = predictor.plans_manager
    try:
        image, properties = read_images(files.images, plans)
        refuse_cut_off([files.label] if files.label else [], plans.image_reader_writer_class)
        label = plans.image_reader_writer_class().read_seg(str(files.label))[0] if files.label else None
        image, label, properties = preprocessor.run_case_npy(
            image, label, properties, plans, predictor.configuration_manager, predictor.dataset_json
        )
    except UnusableImageError as error:
        raise UserError(f"{error}: repair it.") from error
    # every library behind nnU-Net's readers has exceptions of its own
    except Exception as error:
        reason = last_line(error)
        names = ", ".join(map(str, [*files.images, *filter(None, [files.label])]))
        raise UserError(f"{names} cannot be read as a case of {channels} channels ({reason}): repair it.") from error
    height, width = predictor.configuration_manager.spacing[-2:]
    first_slice = int(properties["bbox_used_for_cropping"][0][0])
    return Volume(image.astype(np.float32), label[0] if files.label else None, first_slice, height / width)
