"""The folds of a cross-validation as nnU-Net leaves them in nnUNet_results: what is finished, and what is not."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from nnunetv2.utilities.file_path_utilities import get_output_folder

from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.fold_stage import CHECKPOINTS, Stage, fold_stage
from nnunet_sfma.evaluation.measure import EvaluatedCase
from nnunet_sfma.evaluation.sources import Source, if_there
from nnunet_sfma.evaluation.training_command import training_command
from nnunet_sfma.json_files import read_json
from nnunet_sfma.nnunet_files import read_dataset_json, read_plans
from nnunet_sfma.nnunet_folders import dataset_id, dataset_name, nnunet_folder
from nnunet_sfma.sentences import first_few, first_line
from nnunet_sfma.split_record import SPLITS_FILE, read_split_record, read_splits, split_checksum
from nnunet_sfma.trainers.changed_plans import changes_between, describe
from nnunet_sfma.trainers.checkpoint_reader import read_facts
from nnunet_sfma.trainers.checkpoints import FINAL
from nnunet_sfma.trainers.trained_on import kept_cases, refuse_another_split

DEBUG = {"type": "object", "required": ["device"], "properties": {"gpu_name": {"type": "string"}}}
CURVES = ("train_losses", "val_losses", "mean_fg_dice", "ema_fg_dice", "train_dice", "lrs")


def from_cross_validation(
    dataset: int | str, trainer: str, plans_name: str, configuration: str, folds: Sequence[int] | None = None
) -> Source:
    """The validation predictions of a model's folds, and the data set's ``gt_segmentations``.

    Args:
        dataset: id or name.
        trainer, plans_name, configuration: of the model.
        folds: some of the split's folds; all of them if None. Folds that are asked for have to be finished.

    Raises:
        UserError: if the model, the split or a label is not there, folds that were asked for are not finished, or
            results of another trainer, other plans or another split lie among them.
    """
    name = dataset_name(dataset)
    nnunet_folder("nnUNet_results")
    model = Path(get_output_folder(name, trainer, plans_name, configuration))
    if not model.is_dir():
        raise UserError(f"There is no model in {model}: train it, or check -d, -tr, -p and -c.")
    plans = read_plans(model / "plans.json")
    dataset_json = read_dataset_json(model / "dataset.json")
    if configuration not in plans["configurations"]:
        raise UserError(f"{model / 'plans.json'} has no configuration '{configuration}': restore it, or train again.")
    preprocessed = nnunet_folder("nnUNet_preprocessed") / name
    splits = read_splits(preprocessed / SPLITS_FILE)
    wanted = _wanted(folds, len(splits))
    command = f"nnUNetv2_train {dataset_id(name)} {configuration} {{}} -tr {trainer} -p {plans_name}"
    ending = dataset_json["file_ending"]
    states = [
        _state(model, number, splits[number], ending, plans, trainer, configuration, command) for number in wanted
    ]
    missing = [state.pop("problem") for state in states]
    missing = [sentence for sentence in missing if sentence]
    if missing and folds is not None:
        raise UserError(missing[0])
    _refuse_different_plans(states, plans, configuration)
    cases = [
        EvaluatedCase(
            case=case,
            fold=state["fold"],
            prediction=_validation(model, state["fold"]) / f"{case}{ending}",
            reference=_reference(preprocessed, case, ending),
            instances=_instances(name, case, ending),
            probabilities=if_there(_validation(model, state["fold"]) / f"{case}.npz"),
        )
        for state in states
        if state["state"] == "finished"
        for case in sorted(splits[state["fold"]]["val"])
    ]
    if not cases:
        raise UserError(missing[0])
    raw = nnunet_folder("nnUNet_raw") / name
    return Source(
        name=f"{trainer} / {plans_name} / {configuration}",
        output=model / "evaluation",
        cases=cases,
        dataset_json=dataset_json,
        plans=plans,
        configuration=configuration,
        trainer=trainer,
        model_folder=model,
        split=_describe_split(preprocessed, splits),
        folds=states,
        missing=missing,
        subset=len(wanted) < len(splits),
        raw=raw if raw.is_dir() else None,
        images=raw / "imagesTr",
    )


def _wanted(folds: Sequence[int] | None, number: int) -> list[int]:
    wanted = list(range(number)) if folds is None else sorted(set(folds))
    unknown = [fold for fold in wanted if not 0 <= fold < number]
    if unknown:
        raise UserError(f"The split has no fold {unknown[0]}: it has folds 0 to {number - 1}.")
    return wanted


def _validation(model: Path, fold: int) -> Path:
    return model / f"fold_{fold}" / "validation"


def _state(
    model: Path, fold: int, split: dict, ending: str, plans: dict, trainer: str, configuration: str, command: str
) -> dict:
    """The entry of ``folds`` in evaluation.json, with "problem": a sentence on what is missing, or None."""
    folder, cases = model / f"fold_{fold}", split["val"]
    command = command.format(fold)
    stage = fold_stage(folder, cases, ending)
    entry = {"fold": fold, "state": "not trained", "detail": "", "cases": 0, "curves": {}, "command": command}
    entry |= {"seconds": None, "device": None, "plans": None}
    if stage == Stage.NOT_TRAINED:
        return {**entry, "problem": f"Fold {fold} is not trained: run {command}."}
    log = _read_newest_checkpoint(folder, trainer)
    refuse_another_split(folder, log["trained_on"], split["train"], cases)
    predicted = {path.name.removesuffix(ending) for path in _validation(model, fold).glob(f"*{ending}")}
    strangers = sorted(predicted - set(cases))
    if strangers:
        raise UserError(
            f"{_validation(model, fold)} holds predictions that the split does not validate in fold {fold} "
            f"({first_few(strangers, 3)}): the split was changed after the training, or results were mixed."
        )
    training = log["plans"]["configurations"].get(configuration, {}).get("training") or {}
    whole = f" of {training['num_epochs']}" if training else ""
    entry |= {
        "command": training_command(folder, command),
        "detail": f"{log['epochs']}{whole} epochs",
        "cases": len(predicted),
        "curves": log["curves"],
        "seconds": log["seconds"],
        "device": _device(folder),
        "plans": log["plans"],
    }
    if stage == Stage.INTERRUPTED:
        problem = f"Fold {fold} is not finished ({entry['detail']}): continue it with {command} --c."
    elif stage == Stage.TRAINED:
        lacking = f"has predictions for {len(predicted)} of {len(cases)} cases"
        if len(predicted) >= len(cases):
            lacking = "was not validated to the end"
        problem = f"Fold {fold} {lacking}: run {command} --val."
    else:
        problem = None
    return {**entry, "state": "interrupted" if problem else "finished", "problem": problem}


def _read_newest_checkpoint(folder: Path, trainer: str) -> dict:
    """What the checkpoint tells that nnU-Net would continue from; an unfinished fold may have a damaged latest one."""
    paths = [folder / name for name in CHECKPOINTS if (folder / name).is_file()]
    for path in [] if paths[0].name == FINAL else paths:
        with contextlib.suppress(UserError):
            return _read_checkpoint(path, trainer)
    return _read_checkpoint(paths[0], trainer)


def _read_checkpoint(path: Path, trainer: str) -> dict:
    """What a checkpoint tells of its training.

    Raises:
        UserError: if it is damaged, of another trainer, or names something that is not trusted.
    """
    try:
        checkpoint = read_facts(path)
        made_by, log, plans = checkpoint["trainer_name"], checkpoint["logging"], checkpoint["init_args"]["plans"]
        starts, ends = log.get("epoch_start_timestamps", []), log.get("epoch_end_timestamps", [])
        read = {
            "epochs": checkpoint["current_epoch"],
            "trained_on": kept_cases(checkpoint),
            "plans": {**plans, "configurations": dict(plans["configurations"])},
            "curves": {key: [float(value) for value in log[key]] for key in CURVES if log.get(key)},
            "seconds": sum(end - start for start, end in zip(starts, ends, strict=False)) if ends else None,
        }
    except Exception as error:  # a damaged file, or entries of another kind
        raise UserError(f"{path} cannot be read ({first_line(error)}): train this fold again.") from None
    if made_by != trainer:
        raise UserError(
            f"{path} was trained by {made_by}, but lies in a folder of {trainer}: results of two trainers are mixed."
        )
    return read


def _device(folder: Path) -> str | None:
    try:
        entries = read_json(folder / "debug.json", DEBUG)
    except UserError:  # only for people: an evaluation does without
        return None
    return entries.get("gpu_name") or entries["device"]


def _refuse_different_plans(states: list[dict], saved: dict, configuration: str) -> None:
    """Folds of one cross-validation differ in their cases and in nothing else."""
    for state in states:
        plans = state.pop("plans")
        changes = changes_between(plans, saved, configuration) if plans else {}
        if changes:
            raise UserError(
                f"Fold {state['fold']} was trained with other plans than the model's folder holds "
                f"({describe(changes)}): continue it with --c, which goes on with another recipe, or train it again, "
                f"so that the folds can be averaged."
            )


def _reference(preprocessed: Path, case: str, ending: str) -> Path:
    path = preprocessed / "gt_segmentations" / f"{case}{ending}"
    if not path.is_file():
        raise UserError(f"There is no label {path}: preprocess the data set again.")
    return path


def _instances(name: str, case: str, ending: str) -> Path | None:
    return if_there(nnunet_folder("nnUNet_raw") / name / "instancesTr" / f"{case}{ending}")


def _describe_split(preprocessed: Path, splits: list[dict]) -> dict:
    record = read_split_record(preprocessed)
    test = list(record.test) if record else []
    entry = {"part": "cross-validation", "sha256": split_checksum(splits, test)}
    if record and record.sha256 == entry["sha256"]:
        return {**entry, "scheme": record.scheme, "seed": record.seed, "source": record.source}
    return {**entry, "scheme": "nnU-Net's own or the user's", "seed": None, "source": str(preprocessed / SPLITS_FILE)}
