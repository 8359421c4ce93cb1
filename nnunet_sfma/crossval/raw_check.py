"""The data of a cross-validation against the files in nnUNet_raw, before the first fold starts."""

from collections.abc import Sequence

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_sfma.crossval.models import Model, split_of
from nnunet_sfma.made_for import refuse_data_of_other_plans
from nnunet_sfma.nnunet_files import read_plans
from nnunet_sfma.raw_agreement import compare_with_raw


def check_against_raw(models: Sequence[Model], folds: Sequence[int]) -> list[str]:
    """Return sentences on cases that were changed since they were preprocessed; models share most data.

    Raises:
        UserError: if a label lies on another grid than its image, or data was preprocessed for other plans.
    """
    cases = {case for fold in folds for side in split_of(models[0])[fold].values() for case in side}
    sentences, checked = [], set()
    for model in models:
        if not model.has_plans:
            continue
        plans = PlansManager(read_plans(model.preprocessed / f"{model.plans}.json"))
        refuse_data_of_other_plans(plans.plans, model.configuration, model.preprocessed)
        data = plans.get_configuration(model.configuration).data_identifier
        if data not in checked:
            checked.add(data)
            sentences += compare_with_raw(plans, model.configuration, model.preprocessed, cases)
    return sentences
