"""nnU-Net's preprocessing for plans that cannot share the data of nnU-Net's own plans."""

import json
from pathlib import Path

from nnunet_sfma.errors import UserError
from nnunet_sfma.nnunet_folders import nnunet_folder
from nnunet_sfma.planning.make_plans import CONFIGURATION


def preprocess(plans: Path, processes: int, afresh: bool = False) -> bool:
    """Run what ``nnUNetv2_preprocess -plans_name NAME -c 2d`` runs, unless all cases are preprocessed already.

    Args:
        plans: ``nnUNet_preprocessed/DatasetXXX_Name/NAME.json``.
        processes: worker processes.
        afresh: do it even if all cases are there, because they may be preprocessed for other plans of that name.

    Returns:
        Whether there was something to do.

    Raises:
        UserError: if the raw data set is not there.
    """
    raw = nnunet_folder("nnUNet_raw") / plans.parent.name
    if not afresh and _is_complete(plans, raw):
        return False
    if not (raw / "dataset.json").is_file():
        raise UserError(
            f"{raw} is not there to be preprocessed: put it back and run nnUNetv2_preprocess "
            f"-d {plans.parent.name[7:10]} -plans_name {plans.stem} -c {CONFIGURATION}."
        )
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess

    preprocess([int(plans.parent.name[7:10])], plans.stem, (CONFIGURATION,), (processes,))
    return True


def _is_complete(plans: Path, raw: Path) -> bool:
    """Whether there is data for each label, none of it older than the raw data set."""
    identifier = json.loads(plans.read_text())["configurations"][CONFIGURATION]["data_identifier"]
    labels = sum(1 for _ in (raw / "labelsTr").glob("*"))
    if not (raw / "dataset.json").is_file():
        return False
    made = [path.stat().st_mtime for path in (plans.parent / identifier).glob("*.pkl")]
    return labels > 0 and len(made) == labels and min(made) >= (raw / "dataset.json").stat().st_mtime
