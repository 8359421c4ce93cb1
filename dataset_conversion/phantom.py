"""The demo's stroke phantom as an nnU-Net data set."""

from functools import partial
from pathlib import Path

from dataset_conversion.cases import Case, Content
from dataset_conversion.common import write_dataset
from nnunet_sfma.demo.phantom import stroke_phantom
from nnunet_sfma.errors import UserError

NAME = "StrokePhantom"


def convert(
    cases: int,
    seed: int,
    dataset_id: int,
    *,
    test_cases: int = 0,
    overwrite: bool = False,
    processes: int = 1,
    command: str | None = None,
) -> Path:
    """Generate phantoms and write them as ``nnUNet_raw/DatasetXXX_StrokePhantom``.

    Args:
        cases: how many training cases, at least 5 for nnU-Net's five folds.
        seed: same seed, same voxels.
        dataset_id: 1 to 999.
        test_cases: how many more for imagesTs and labelsTs.
        overwrite: replace an existing data set.
        processes: worker processes.
        command: what the user typed, for provenance.json.

    Raises:
        UserError: if a number is out of range, or as :func:`dataset_conversion.common.write_dataset` does.
    """
    if cases < 5 or test_cases < 0 or seed < 0:
        raise UserError("The phantom needs at least 5 cases (nnU-Net makes five folds) and no negative number or seed.")
    made = [Case(f"phantom_{index:03d}", partial(_load, seed, index)) for index in range(cases + test_cases)]
    return write_dataset(
        dataset_id,
        NAME,
        made[:cases],
        {"0": "DWI"},
        {"background": 0, "lesion": 1},
        test_cases=made[cases:],
        overwrite=overwrite,
        processes=processes,
        provenance={"generator": "nnunet_sfma.demo.phantom", "seed": seed},
        about={"description": "Synthetic stroke phantoms; no patient is involved."},
        command=command,
    )


def _load(seed: int, index: int) -> Content:
    image, mask = stroke_phantom(seed, index)
    return Content([image], mask)
