"""Images read and preprocessed for the network; one that cannot be used leaves the others alone."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_sfma.sentences import last_line
from nnunet_sfma.whole_files import is_whole
from nnunet_sfma.workers import few_ahead


class UnusableImageError(Exception):
    """An image that cannot be predicted; the text names the file and says why."""


def read_cases(
    cases: Sequence[Sequence[str]],
    outputs: Sequence[str | None],
    plans: PlansManager,
    configuration: ConfigurationManager,
    dataset_json: dict,
    processes: int,
) -> Iterator[dict]:
    """Yield what nnU-Net's predictor takes of each case, or in place of it why the case cannot be predicted.

    Args:
        cases: the image files of each.
        outputs: file for the prediction of each, without its ending.
        plans, configuration, dataset_json: of the model.
        processes: that read and preprocess; 0 for none but this one.

    Yields:
        ``data`` (C, Z, Y, X), ``data_properties`` and ``ofile``, in the order of the cases; or ``unusable``, a clause.
    """
    model = (plans, configuration, dataset_json)
    jobs = [(files, output, *model) for files, output in zip(cases, outputs, strict=True)]
    for item in few_ahead(_read_case, jobs, processes):
        if "data" in item:
            item["data"] = torch.from_numpy(item["data"])
        yield item


def _read_case(
    files: Sequence[str],
    output: str | None,
    plans: PlansManager,
    configuration: ConfigurationManager,
    dataset_json: dict,
) -> dict:
    try:
        image, properties = read_images(files, plans)
        preprocessor = configuration.preprocessor_class(verbose=False)
        data, _, properties = preprocessor.run_case_npy(image, None, properties, plans, configuration, dataset_json)
    except UnusableImageError as error:
        return {"unusable": str(error)}
    except Exception as error:  # nnU-Net has no exceptions of its own
        return {"unusable": f"{_names(files)} cannot be preprocessed ({last_line(error)})"}
    return {"data": np.ascontiguousarray(data, np.float32), "data_properties": properties, "ofile": output}


def read_images(files: Sequence[str | Path], plans: PlansManager) -> tuple[np.ndarray, dict]:
    """Return an image (C, Z, Y, X) and its properties, as nnU-Net's reader does.

    Raises:
        UnusableImageError: if a file cannot be read, is cut off, or holds a value that is not finite.
    """
    reader = plans.image_reader_writer_class
    try:
        image, properties = reader().read_images([str(file) for file in files])
    except UnusableImageError:
        raise
    except Exception as error:  # every library behind nnU-Net's readers has its own
        raise UnusableImageError(f"{_names(files)} cannot be read ({last_line(error)})") from error
    refuse_cut_off(files, reader)
    for channel, voxels in enumerate(image):
        wrong = voxels.size - np.count_nonzero(np.isfinite(voxels))
        if wrong:
            file = files[channel] if len(files) == len(image) else files[0]
            raise UnusableImageError(f"{file} holds {wrong} NaN or infinite voxels in channel {channel}")
    return image, properties


def refuse_cut_off(files: Sequence[str | Path], reader: type[BaseReaderWriter]) -> None:
    """Refuse a NIfTI or GIPL that ends before its voxels do, which ITK reads without a word.

    Raises:
        UnusableImageError: naming the first.
    """
    for path in map(Path, files):
        if path.name.endswith((".nii", ".nii.gz", ".gipl")) and not is_whole(path, reader):
            raise UnusableImageError(f"{path} is cut off")


def _names(files: Sequence[str | Path]) -> str:
    return ", ".join(str(file) for file in files)
