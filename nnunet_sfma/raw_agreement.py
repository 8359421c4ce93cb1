"""Preprocessed data against the files in nnUNet_raw, before days are spent on it."""

import os
from collections.abc import Collection
from pathlib import Path

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_sfma.errors import UserError
from nnunet_sfma.grids import differences, read_grid
from nnunet_sfma.preprocessed_age import REFERENCES, outdated_cases, outdated_sentence, preprocess_again
from nnunet_sfma.raw_cases import raw_cases
from nnunet_sfma.sentences import first_few


def compare_with_raw(plans: PlansManager, configuration: str, preprocessed: Path, cases: Collection[str]) -> list[str]:
    """Refuse what could not be evaluated, and return sentences on what was changed since it was preprocessed.

    Args:
        plans: nnU-Net's.
        configuration: of the plans.
        preprocessed: the data set's folder in nnUNet_preprocessed.
        cases: that are to be trained and validated on.

    Returns:
        At most one sentence; none where nnUNet_raw does not hold the data set.

    Raises:
        UserError: if a label lies on another grid than its image; nnU-Net notices nothing, and ``nnunet-sfma evaluate``
            refuses all predictions at the end.
    """
    if not os.environ.get("nnUNet_raw"):
        return []
    raw = Path(os.environ["nnUNet_raw"], plans.dataset_name)
    mending = preprocess_again(preprocessed, plans.plans_name, configuration)
    _refuse_other_grids(plans, raw, preprocessed, cases, mending)
    outdated = outdated_cases(raw, preprocessed, plans.get_configuration(configuration).data_identifier)
    return [outdated_sentence(outdated, raw, mending)] if outdated else []


def _refuse_other_grids(
    plans: PlansManager, raw: Path, preprocessed: Path, cases: Collection[str], mending: str
) -> None:
    reader, wrong = plans.image_reader_writer_class, {}
    for case, files in raw_cases(raw).items():
        label = preprocessed / REFERENCES / files.copy
        if case in cases and label.is_file() and files.images[0].is_file():
            places = differences(read_grid(label, reader), read_grid(files.images[0], reader))
            if places:
                wrong[case] = " and ".join(places)
    if wrong:
        found = first_few([f"{case}: {places}" for case, places in wrong.items()])
        raise UserError(
            f"Label and image have different grids in {len(wrong)} of {len(cases)} cases ({found}), and no prediction "
            f"could be evaluated with the labels in {preprocessed / REFERENCES}: where both show the same voxels, copy "
            f"the image's header to the label in {raw / 'labelsTr'} (SimpleITK: label.CopyInformation(image)), "
            f"otherwise convert the case again; then {mending}."
        )
