"""nnU-Net's preprocessing for plans that cannot share the data of nnU-Net's own plans."""

from pathlib import Path

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_sfma.errors import UserError
from nnunet_sfma.made_for import changed_since_made, note_made_for
from nnunet_sfma.nnunet_files import read_plans
from nnunet_sfma.nnunet_folders import nnunet_folder
from nnunet_sfma.planning.own_plans import CONFIGURATION, resolved
from nnunet_sfma.preprocessed_age import REFERENCES, outdated_cases, renew_references
from nnunet_sfma.raw_cases import raw_cases
from nnunet_sfma.sentences import first_few, first_line
from nnunet_sfma.whole_files import FILES_WORTH_A_PROCESS, is_whole
from nnunet_sfma.workers import in_parallel

STOP_OF_A_PICKLE = b"."


def preprocess(path: Path, processes: int, afresh: bool = False) -> bool:
    """Run what ``nnUNetv2_preprocess -plans_name NAME -c 2d`` runs, unless all cases are preprocessed already.

    Args:
        path: ``nnUNet_preprocessed/DatasetXXX_Name/NAME.json``.
        processes: worker processes.
        afresh: do it even if :func:`is_preprocessed`.

    Returns:
        Whether there was something to do.

    Raises:
        UserError: if the raw data set is not there, a file of it is cut off, or nnU-Net cannot preprocess it.
    """
    if not afresh and is_preprocessed(path):
        return False
    raw = _raw(path)
    dataset = path.parent.name[7:10]
    if not (raw / "dataset.json").is_file():
        raise UserError(
            f"{raw} is not there to be preprocessed: put it back and run nnUNetv2_preprocess "
            f"-d {dataset} -plans_name {path.stem} -c {CONFIGURATION}."
        )
    plans = read_plans(path)
    _refuse_cut_off(plans, raw, processes)
    renew_references(raw, path.parent)
    _run(int(dataset), path.stem, processes)
    note_made_for(plans, CONFIGURATION, path.parent)
    return True


def is_preprocessed(path: Path) -> bool:
    """Return whether the cases of the raw data set are there, whole, made for these plans and of the files as they are.

    Args:
        path: ``nnUNet_preprocessed/DatasetXXX_Name/NAME.json``.
    """
    plans, preprocessed, raw = read_plans(path), path.parent, _raw(path)
    data = preprocessed / resolved(plans)["data_identifier"]
    cases = raw_cases(raw)
    made = {file.name.removesuffix(".pkl"): file for file in data.glob("*.pkl")}
    if not cases or made.keys() != cases.keys() or changed_since_made(plans, CONFIGURATION, preprocessed):
        return False
    oldest = min(file.stat().st_mtime for file in made.values())
    return (
        all(_is_whole(file) for file in made.values())
        and all((preprocessed / REFERENCES / case.copy).is_file() for case in cases.values())
        and oldest >= (raw / "dataset.json").stat().st_mtime
        and not outdated_cases(raw, preprocessed, data.name)
    )


def _raw(path: Path) -> Path:
    return nnunet_folder("nnUNet_raw") / path.parent.name


def _is_whole(properties: Path) -> bool:
    """Whether image and segmentation of a case are there, and its properties, written last, to their end."""
    arrays = all(properties.with_name(f"{properties.stem}{ending}").is_file() for ending in (".b2nd", "_seg.b2nd"))
    return (arrays or properties.with_suffix(".npz").is_file()) and properties.read_bytes()[-1:] == STOP_OF_A_PICKLE


def _refuse_cut_off(plans: dict, raw: Path, processes: int) -> None:
    """nnU-Net's readers fill up a compressed file that was cut off, and say nothing."""
    reader = PlansManager(plans).image_reader_writer_class
    files = [file for case in raw_cases(raw).values() for file in (*case.images, case.label) if file.is_file()]
    number = min(processes, len(files) // FILES_WORTH_A_PROCESS + 1)
    whole = in_parallel(is_whole, [(file, reader) for file in files], number, "Looking for cut-off files")
    damaged = [str(file) for file, good in zip(files, whole, strict=True) if not good]
    if damaged:
        raise UserError(f"{len(damaged)} raw files are cut off ({first_few(damaged)}): put whole ones in their place.")


def _run(dataset: int, plans_name: str, processes: int) -> None:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess

    try:
        preprocess([dataset], plans_name, (CONFIGURATION,), (processes,))
    except (ArithmeticError, AssertionError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"nnU-Net could not preprocess the raw data ({first_line(error)}): see what nnUNetv2_plan_and_preprocess "
            f"-d {dataset} --verify_dataset_integrity says, and run this command again."
        ) from error
