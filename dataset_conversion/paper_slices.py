"""Slices as in SFMANet's paper: along the X axis, each resized to 256 x 256, written as a 2D data set.

This is a conversion and not a plan, because nnU-Net never resizes a slice to a fixed size. Images are resampled
linearly, labels by the nearest neighbour, both with pixel centres aligned, so that a label of at most 256 pixels a side
comes back unchanged. The grid of each volume is kept in ``provenance.json``, from which :func:`stack` restores volumes.
"""

import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from tqdm import tqdm

from dataset_conversion.cases import Case, Content, Piece
from dataset_conversion.found import Found
from dataset_conversion.image_files import read_image, write_image
from dataset_conversion.raw_dataset import PROVENANCE
from dataset_conversion.refused import raise_together
from nnunet_sfma.errors import UserError
from nnunet_sfma.json_files import read_json

SIZE = 256
RESAMPLING = "image: linear, label: nearest, pixel centres aligned"
OF_THE_MODEL = ("dataset.json", "plans.json")
CHOSEN_BY_LABEL = (
    "The slices are chosen by their labels (--slices lesion), those of validation and test cases too: scores are "
    "higher than on whole volumes."
)


def prepare(found: Found, slices: str) -> None:
    """Have all volumes cut into slices when they are written.

    Args:
        found: a converter's cases; its name and options are changed.
        slices: ``all``, or ``lesion`` for those with a lesion; test volumes without a label are cut whole.
    """
    found.dataset_name += f"_slices{SIZE}" + ("_lesion" if slices == "lesion" else "")
    found.count = number_of_slices
    found.options |= {"paper_slices": slices, "axis": "x", "size": SIZE, "resampling": RESAMPLING}
    found.resized = {"size": [SIZE, SIZE], "slices_along": "x", "image": "linear", "label": "nearest"}
    if slices == "lesion":
        found.notes.append(CHOSEN_BY_LABEL)
    found.cut = partial(cut, slices=slices)


def cut(content: Content, slices: str = "all") -> Iterator[Piece]:
    """The slices of a volume along X, 256 x 256 pixels with rows along Z and columns along Y, named ``_x000``, ...

    Yields:
        A piece for each slice; with ``lesion`` only for those in which the label is above 0.
    """
    label = None if content.label is None else sitk.GetArrayViewFromImage(content.label)
    images = [sitk.GetArrayViewFromImage(image) for image in content.images]
    for x in range(content.images[0].GetSize()[0]):
        if slices == "lesion" and label is not None and not label[:, :, x].any():
            continue
        yield Piece(
            f"_x{x:03d}",
            [_resized(image[:, :, x].astype(np.float32), (SIZE, SIZE), sitk.sitkLinear) for image in images],
            None if label is None else _resized(label[:, :, x], (SIZE, SIZE), sitk.sitkNearestNeighbor),
        )


def number_of_slices(case: Case) -> int:
    """Return how many slices a volume has along X, from the header of the last of its files; all have one grid.

    Raises:
        UserError: if the file is no image.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(case.sources[-1]))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise UserError(f"The image {case.sources[-1]} cannot be read; replace it by an intact copy.") from None
    return reader.GetSize()[0]


def stack(predictions: Path, dataset: Path, output: Path) -> list[Path]:
    """Put predicted slices back into volumes of the original geometry.

    Slices that the data set does not have (``--slices lesion``) are background. What nnU-Net leaves beside predictions
    to tell of their model goes along, so that ``nnunet-sfma evaluate`` knows it.

    Args:
        predictions: folder with ``CASE_xNNN.nii.gz``, as nnUNetv2_predict writes it.
        dataset: the raw data set that the slices are from.
        output: folder for ``CASE.nii.gz``; it must not exist or be empty.

    Returns:
        The volumes.

    Raises:
        UserError: if the data set does not consist of slices, a slice is missing, unknown or damaged, or the output is
            not empty; nothing is left behind.
    """
    output = output.resolve()
    cases = _sliced_cases(dataset)
    given = _predicted(predictions, cases)
    _check_all_are_whole(given)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} exists and is not an empty folder; choose another one with -o.")
    hidden = output.with_name(f".{output.name}.unfinished")
    try:
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir(parents=True)
        for case in tqdm(sorted(given), desc="stack", unit="volume", disable=None):
            write_image(_volume(given[case], cases[case]), hidden / f"{case}.nii.gz")
        for path in filter(Path.is_file, (predictions / name for name in OF_THE_MODEL)):
            shutil.copy(path, hidden)
        if output.exists():
            output.rmdir()
        hidden.rename(output)
    except OSError as error:
        raise UserError(f"{output} could not be written ({error}); choose another folder or make room.") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    _tell_of_gaps(given, cases)
    return sorted(output.glob("*.nii.gz"))


def _check_all_are_whole(given: dict[str, dict[int, Path]]) -> None:
    paths = [path for slices in given.values() for path in slices.values()]
    sentences = []
    for path in tqdm(paths, desc="read", unit="slice", disable=None):
        try:
            _slice(path)
        except UserError as error:
            sentences.append(str(error))
    raise_together(sentences, f"{len(sentences)} of {len(paths)} predicted slices cannot be used")


def _tell_of_gaps(given: dict[str, dict[int, Path]], cases: dict[str, dict]) -> None:
    gaps = sum(int(cases[case]["grid"]["size"][0]) - len(slices) for case, slices in given.items())
    if gaps:
        print(
            f"Note: {gaps} slices without lesion are not in the data set (--slices lesion) and were filled with "
            "background, so scores of these volumes are too good."
        )


def _resized(array: np.ndarray, shape: tuple[int, int], interpolation: int) -> sitk.Image:
    """A two-dimensional array with its pixels' centres spread over another number of pixels."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    scale = [old / new for old, new in zip(array.shape[::-1], shape[::-1], strict=True)]
    # The first centre moves from half an old pixel to half a new one; outside the outermost centres the edge counts.
    origin = [(step - 1) / 2 for step in scale]
    resized = sitk.Resample(image, shape[::-1], sitk.Transform(), interpolation, origin, scale)
    resized.SetOrigin((0, 0))
    resized.SetSpacing((1, 1))
    return resized


def _sliced_cases(dataset: Path) -> dict[str, dict]:
    other = f"{dataset} does not consist of slices: give the data set that --paper-slices wrote with -d"
    provenance = read_json(dataset / "provenance.json", PROVENANCE, advice=other, missing=f"{other}.")
    sliced = {case: entry for case, entry in provenance["cases"].items() if "slices" in entry and "grid" in entry}
    if not sliced:
        raise UserError(f"{other}.")
    return sliced


def _predicted(predictions: Path, cases: dict[str, dict]) -> dict[str, dict[int, Path]]:
    """The predicted slice files by case and index, complete for each case."""
    if not predictions.is_dir():
        raise UserError(f"{predictions} is not a folder; give the one that nnUNetv2_predict wrote with -i.")
    given: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in sorted(predictions.glob("*.nii.gz")):
        match = re.fullmatch(r"(.+)_x(\d{3,})", path.name.removesuffix(".nii.gz"))
        if not match or path.name.removesuffix(".nii.gz") not in cases.get(match[1], {}).get("slices", ()):
            raise UserError(f"{path} is no slice of this data set; give the predictions of its own slices with -i.")
        given[match[1]][int(match[2])] = path
    if not given:
        raise UserError(f"{predictions} holds no predicted slices (*_x000.nii.gz); predict the slices first.")
    incomplete = []
    for case, slices in given.items():
        beyond = max(slices) - int(cases[case]["grid"]["size"][0])
        if beyond >= 0:
            raise UserError(f"{case} has a slice {max(slices)} but no such column in its grid: convert the data again.")
        total = len(cases[case]["slices"])
        if len(slices) < total:
            incomplete.append(f"{total - len(slices)} of {total} slices of {case} are missing in {predictions}.")
    raise_together(incomplete, f"{len(incomplete)} of {len(given)} volumes are incomplete")
    return given


def _volume(slices: dict[int, Path], entry: dict) -> sitk.Image:
    grid = entry["grid"]
    columns, rows, depth = (int(side) for side in grid["size"])
    array = np.zeros((depth, rows, columns), np.uint8)
    for x, path in slices.items():
        array[:, :, x] = _original_size(path, (depth, rows))
    volume = sitk.GetImageFromArray(array)
    volume.SetSpacing(grid["spacing"])
    volume.SetOrigin(grid["origin"])
    volume.SetDirection(grid["direction"])
    return volume


def _original_size(path: Path, shape: tuple[int, int]) -> np.ndarray:
    return sitk.GetArrayFromImage(_resized(_slice(path), shape, sitk.sitkNearestNeighbor))


def _slice(path: Path) -> np.ndarray:
    array = sitk.GetArrayFromImage(read_image(path)).squeeze()
    if array.shape != (SIZE, SIZE):
        raise UserError(f"{path} has {array.shape} pixels instead of {SIZE} x {SIZE}; predict the slices again.")
    labels = array.astype(np.uint8)
    if not np.array_equal(labels, array):
        raise UserError(f"{path} has values that are no labels from 0 to 255; give label maps, not probabilities.")
    return labels
