"""How large preprocessed cases are, which tells at what spacing they were made."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_sfma.errors import UserError
from nnunet_sfma.fold_cases import preprocessed_cases

CASES = 5
RESAMPLES, RESAMPLES_NOT = "DefaultPreprocessor", "no_resampling_hack"


def is_of_spacing(data: Path, plans: PlansManager, configuration: str) -> bool:
    """Return whether a few cases are as large as nnU-Net makes them for a configuration; True if nobody can tell.

    Args:
        data: the folder of preprocessed data.
    """
    manager = plans.get_configuration(configuration)
    if manager.preprocessor_name != RESAMPLES or manager.configuration["resampling_fn_data"] == RESAMPLES_NOT:
        return True
    return all(
        shape == _resampled(properties, plans.transpose_forward, manager.spacing) for shape, properties in _some(data)
    )


def _some(data: Path) -> Iterator[tuple[list[int], dict]]:
    """Shape and properties of cases from all over the data set, but none of a damaged one."""
    try:
        cases = preprocessed_cases(data)
        dataset = infer_dataset_class(str(data))(str(data), cases)
    except UserError:  # no data yet
        return
    for case in cases[:: max(len(cases) // CASES, 1)][:CASES]:
        try:
            image, _, _, properties = dataset.load_case(case)
        except Exception:  # each kind of file has its own; whoever trains with it will say so
            continue
        yield list(image.shape[1:]), properties


def _resampled(properties: dict, transpose: Sequence[int], spacing: Sequence[float]) -> list[int]:
    """The shape of a case in the plans' spacing; a 2D configuration leaves that between slices as it is."""
    original = [properties["spacing"][axis] for axis in transpose]
    target = [*original[: len(original) - len(spacing)], *spacing]
    return compute_new_shape(properties["shape_after_cropping_and_before_resampling"], original, target).tolist()
