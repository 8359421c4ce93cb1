"""nnU-Net's preprocessing for plans that cannot share the data of nnU-Net's own plans."""

from pathlib import Path

from nnunet_sfma.errors import UserError
from nnunet_sfma.made_for import changed_since_made, note_made_for
from nnunet_sfma.nnunet_folders import nnunet_folder
from nnunet_sfma.planning.make_plans import CONFIGURATION
from nnunet_sfma.plans_files import read_plans
from nnunet_sfma.preprocessed_age import REFERENCES, outdated_cases, outdated_references
from nnunet_sfma.raw_cases import raw_cases
from nnunet_sfma.sentences import first_line

STOP_OF_A_PICKLE = b"."


def preprocess(path: Path, processes: int, afresh: bool = False) -> bool:
    """Run what ``nnUNetv2_preprocess -plans_name NAME -c 2d`` runs, unless all cases are preprocessed already.

    They are if each case of nnUNet_raw is there as it is now, and was made for plans like these.

    Args:
        path: ``nnUNet_preprocessed/DatasetXXX_Name/NAME.json``.
        processes: worker processes.
        afresh: do it even if all cases are there.

    Returns:
        Whether there was something to do.

    Raises:
        UserError: if the raw data set is not there, or nnU-Net cannot preprocess it.
    """
    raw = nnunet_folder("nnUNet_raw") / path.parent.name
    plans = read_plans(path)
    if not afresh and _is_complete(plans, path.parent, raw):
        return False
    dataset = path.parent.name[7:10]
    if not (raw / "dataset.json").is_file():
        raise UserError(
            f"{raw} is not there to be preprocessed: put it back and run nnUNetv2_preprocess "
            f"-d {dataset} -plans_name {path.stem} -c {CONFIGURATION}."
        )
    # nnU-Net replaces a reference only by a newer label
    for reference in outdated_references(raw, path.parent):
        reference.unlink()
    _run(int(dataset), path.stem, processes)
    note_made_for(plans, CONFIGURATION, path.parent)
    return True


def _run(dataset: int, plans_name: str, processes: int) -> None:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess

    try:
        preprocess([dataset], plans_name, (CONFIGURATION,), (processes,))
    except (ArithmeticError, AssertionError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"nnU-Net could not preprocess the raw data ({first_line(error)}): see what nnUNetv2_plan_and_preprocess "
            f"-d {dataset} --verify_dataset_integrity says, and run this command again."
        ) from error


def _is_complete(plans: dict, preprocessed: Path, raw: Path) -> bool:
    """Whether just the cases of the raw data set are there, whole, made for these plans and of the files as they are."""
    data = preprocessed / plans["configurations"][CONFIGURATION]["data_identifier"]
    cases = raw_cases(raw)
    made = {path.name.removesuffix(".pkl"): path for path in data.glob("*.pkl")}
    if not cases or made.keys() != cases.keys() or changed_since_made(plans, CONFIGURATION, preprocessed):
        return False
    copied = all((preprocessed / REFERENCES / case.copy).is_file() for case in cases.values())
    oldest = min(path.stat().st_mtime for path in made.values())
    return (
        copied
        and oldest >= (raw / "dataset.json").stat().st_mtime
        and all(path.read_bytes()[-1:] == STOP_OF_A_PICKLE for path in made.values())
        and not outdated_cases(raw, preprocessed, data.name)
    )
