"""What ``nnunet-sfma plan`` refuses before anything is written: names and values with which no training would work."""

import json
import math
import os
import re
from typing import Any

from nnunet_sfma.errors import UserError
from nnunet_sfma.sentences import shortened

PREPROCESSING_KEYS = ("spacing", "normalization_schemes")
SMALLEST_SLICE, LARGEST_SLICE, LARGEST_PATCH, LARGEST_BATCH = 4, 2**14, 2**13, 2**16
BARE_NAME = re.compile(r"\w[\w.+=-]*")
LONGEST_NAME = 100
FILES_BESIDE_PLANS = ("dataset", "dataset_fingerprint", "splits_final", "split_record")


def check_name(name: str, base: str) -> None:
    """Refuse a name of plans that another file of their folder has, or that folders and commands cannot hold.

    Args:
        name: of the plans to be written.
        base: of nnU-Net's own plans.
    """
    if not BARE_NAME.fullmatch(base):
        raise UserError(f"-p {shortened(base)!r}: give the name of plans as it stands in their folder, without .json.")
    if not BARE_NAME.fullmatch(name) or "__" in name or len(name.encode()) > LONGEST_NAME:
        raise UserError(
            f"'{shortened(name)}' cannot name these plans: use letters, digits, '.', '+', '=', '-' and single '_', "
            f"at most {LONGEST_NAME} of them."
        )
    if name.lower() in (base.lower(), *FILES_BESIDE_PLANS):
        raise UserError(f"'{name}' cannot name these plans: {name}.json is another file of that folder.")


def check_configuration(configuration: dict, original: dict) -> None:
    """Refuse entries of a configuration that no training can use.

    Args:
        configuration: as it would be written.
        original: nnU-Net's own, which shows what the entries look like.
    """
    batch, patch = configuration["batch_size"], configuration["patch_size"]
    for key in ("batch_dice", *PREPROCESSING_KEYS):
        if not _alike(configuration[key], original[key]):
            raise UserError(
                f"{key} must look like {json.dumps(original[key])}, got {shortened(repr(configuration[key]))}."
            )
    if not isinstance(batch, int) or isinstance(batch, bool) or not 1 <= batch <= LARGEST_BATCH:
        raise UserError(
            f"batch_size must be a whole number from 1 on, {LARGEST_BATCH} at most, got {shortened(repr(batch))}."
        )
    sides = patch if isinstance(patch, list) else []
    if len(sides) != 2 or not all(type(side) is int and side >= 16 for side in sides):
        raise UserError(
            f"patch_size must be two whole numbers of at least 16, such as [256,256], got {shortened(repr(patch))}."
        )
    if max(sides) > LARGEST_PATCH:
        raise UserError(f"patch_size has sides of at most {LARGEST_PATCH}, got {shortened(repr(patch))}.")
    if configuration["spacing"] != original["spacing"]:
        _check_spacing(configuration["spacing"], original)
    for scheme in configuration["normalization_schemes"]:
        _check_normalization(scheme)


def _check_spacing(spacing: list[float], original: dict) -> None:
    """Refuse a spacing with which slices would have no or far too many pixels."""
    median = original["median_image_size_in_voxels"]
    if all(0 < value < math.inf for value in spacing):  # NaN is not, either
        sides = [size * old / new for size, old, new in zip(median, original["spacing"], spacing, strict=True)]
        if all(SMALLEST_SLICE <= side <= LARGEST_SLICE for side in sides):
            return
    raise UserError(
        f"spacing={json.dumps(spacing)} leaves no usable slices of the {median[0]:g} x {median[1]:g} pixels that they "
        f"have with {json.dumps(original['spacing'])} mm: choose another."
    )


def _check_normalization(scheme: str) -> None:
    import nnunetv2
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    folder = os.path.join(nnunetv2.__path__[0], "preprocessing", "normalization")
    if recursive_find_python_class(folder, scheme, "nnunetv2.preprocessing.normalization") is None:
        raise UserError(f"nnU-Net has no normalisation '{shortened(scheme)}': name one such as ZScoreNormalization.")


def refuse_not_finite(architecture: dict, settings: list[str]) -> None:
    """JSON's NaN and Infinity, which a network did not notice by itself."""
    try:
        json.dumps(architecture, allow_nan=False)
    except ValueError:
        raise UserError(f"--set {shortened(' '.join(settings))}: give numbers that are finite.") from None


def _alike(value: Any, example: Any) -> bool:
    """Whether a value has the type of an example: true or false, a number, text, or a list of as many such entries."""
    if isinstance(example, list):
        return isinstance(value, list) and len(value) == len(example) and all(map(_alike, value, example))
    number = isinstance(example, (int, float)) and not isinstance(example, bool)
    return type(value) in (int, float) if number else type(value) is type(example)
