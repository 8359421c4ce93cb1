"""The models of a cross-validation: trainer, plans and configuration, checked before anything is started."""

import contextlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nnunetv2.utilities.crossval_split import generate_crossval_split
from nnunetv2.utilities.file_path_utilities import get_output_folder
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_sfma.errors import UserError
from nnunet_sfma.evaluation.fold_stage import is_begun
from nnunet_sfma.files import replace_text, replace_texts
from nnunet_sfma.fold_cases import DRAWN_FOLDS, preprocessed_cases, refuse_unusable_folds
from nnunet_sfma.json_files import read_json
from nnunet_sfma.nnunet_files import read_plans
from nnunet_sfma.nnunet_folders import VARIABLES, dataset_id, dataset_name, make_writable_folder, nnunet_folder
from nnunet_sfma.sentences import first_few
from nnunet_sfma.split_record import SPLITS_FILE, read_splits
from nnunet_sfma.trainers.typed_training import NO_PLANS


@dataclass(frozen=True)
class Model:
    """What nnU-Net keeps in one folder of results.

    Attributes:
        dataset: full name.
        trainer: name of its class.
        plans: name of the plans.
        configuration: of the plans.
    """

    dataset: str
    trainer: str
    plans: str
    configuration: str

    @property
    def identifier(self) -> str:
        """The folder's name, as nnU-Net composes it."""
        return f"{self.trainer}__{self.plans}__{self.configuration}"

    @cached_property
    def folder(self) -> Path:
        """The folder in nnUNet_results; it need not be there."""
        return Path(get_output_folder(self.dataset, self.trainer, self.plans, self.configuration))

    @property
    def fold_names(self) -> list[str]:
        """What follows ``fold_`` in the names of its folders: numbers, or "all"."""
        return [path.name.removeprefix("fold_") for path in self.folder.glob("fold_*")]

    @property
    def preprocessed(self) -> Path:
        """The data set's folder in nnUNet_preprocessed."""
        return nnunet_folder("nnUNet_preprocessed") / self.dataset

    @property
    def is_preprocessed(self) -> bool:
        """Whether this machine sees the data set in nnUNet_preprocessed; results alone tell almost as much."""
        return bool(os.environ.get("nnUNet_preprocessed")) and self.preprocessed.is_dir()

    @property
    def has_plans(self) -> bool:
        """Whether its plans lie beside the preprocessed data; a dry run does not write those of seeds."""
        return self.is_preprocessed and (self.preprocessed / f"{self.plans}.json").is_file()

    @property
    def notes(self) -> Path:
        """The folder that holds locks, logs and records of this data set's cross-validations."""
        return self.folder.parent / "crossval"

    @property
    def split_copy(self) -> Path:
        """The split that the folds of this model were trained on."""
        return self.notes / f"{self.identifier}.split.json"

    @property
    def plans_copy(self) -> Path:
        """The plans that the folds of this model were started with; a trainer may have completed or changed them."""
        return self.notes / f"{self.identifier}.plans.json"

    @property
    def options(self) -> list[str]:
        """The model in the options that nnU-Net's and our commands share, apart from data set and configuration."""
        return ["-tr", self.trainer, "-p", self.plans]

    @property
    def dataset_id(self) -> str:
        """As commands take it."""
        return dataset_id(self.dataset)

    @property
    def advice(self) -> str:
        """For those who find somebody else working on it."""
        command = f"nnunet-sfma status -d {self.dataset_id}"
        return f"look with {command}, or end it with {command} --cancel"

    @property
    def num_epochs(self) -> int | None:
        """Length of the training, if the plans say it; those of the results say it where the others are nnU-Net's."""
        prepared = [self.preprocessed / f"{self.plans}.json"] if self.is_preprocessed else []
        for path in [*prepared, self.folder / "plans.json"]:
            # a fold that starts at this moment writes them
            with contextlib.suppress(UserError):
                plans = read_json(path, _with_num_epochs(self.configuration))
                return plans["configurations"][self.configuration]["training"]["num_epochs"]
        return None


def find_models(dataset: int | str, trainers: Sequence[str], plans: Sequence[str], configuration: str) -> list[Model]:
    """The models to cross-validate; one trainer serves several plans, and the other way round, else they go in pairs.

    Raises:
        UserError: if trainers and plans do not go together, or one of them, the configuration or its preprocessed data
            is not there.
    """
    for variable in VARIABLES:
        nnunet_folder(variable)
    name = dataset_name(dataset)
    if 1 not in (len(trainers), len(plans)) and len(trainers) != len(plans):
        raise UserError(
            f"{len(trainers)} trainers and {len(plans)} plans do not go in pairs: give one of either, or as many."
        )
    number = max(len(trainers), len(plans))
    pairs = zip(list(trainers) * (number // len(trainers)), list(plans) * (number // len(plans)), strict=True)
    models = [Model(name, trainer, plan, configuration) for trainer, plan in dict.fromkeys(pairs)]
    for model in models:
        _check(model)
    return models


def folds_of(model: Model, wanted: Sequence[int] | None) -> list[int]:
    """The folds of the data set's split, or those wanted of them.

    Raises:
        UserError: if the split is damaged, has no such fold or one that cannot be trained.
    """
    path = model.preprocessed / SPLITS_FILE
    number = len(split_of(model))
    folds = list(range(number)) if wanted is None else sorted(set(wanted))
    unknown = [fold for fold in folds if not 0 <= fold < number]
    if unknown:
        raise UserError(f"The split in {path} has no fold {unknown[0]}: it has folds 0 to {number - 1}.")
    if model.has_plans:
        refuse_unusable_folds(model.preprocessed, preprocessed_cases(_preprocessed_cases(model)), folds)
    return folds


def split_of(model: Model) -> list[dict]:
    """``splits_final.json``, or the split that nnU-Net will draw; its copy where only results can be seen.

    Raises:
        UserError: if the file is damaged, or there are too few cases to draw one.
    """
    if not model.is_preprocessed:
        return read_splits(model.split_copy)
    path = model.preprocessed / SPLITS_FILE
    return read_splits(path) if path.is_file() else _draw_split(model)


def keep_split_and_plans(model: Model, folds: Sequence[int] | None = None) -> None:
    """Write the split that nnU-Net would draw for its first fold, where there is none, and copies beside the results.

    Two folds that start at the same time would both draw it and write it. The copies of split and plans tell later
    whether the folds that are trained belong to what is there.

    Args:
        folds: that are to be trained, all if None; of others that were begun, the copy keeps the cases as they are.
    """
    path = model.preprocessed / SPLITS_FILE
    split = split_of(model)
    if not path.is_file():
        replace_text(path, json.dumps(split, indent=4))
    make_writable_folder(model.notes)
    plans = (model.preprocessed / f"{model.plans}.json").read_text()
    with contextlib.suppress(UserError):  # there is no copy yet, or it is damaged and tells nothing any more
        for fold, sides in enumerate(read_splits(model.split_copy)[: len(split)]):
            if folds is not None and fold not in folds and is_begun(model.folder / f"fold_{fold}"):
                split[fold] = sides
    replace_texts({model.split_copy: json.dumps(split, indent=4), model.plans_copy: plans})


def _draw_split(model: Model) -> list[dict]:
    cases = preprocessed_cases(_preprocessed_cases(model))
    refuse_unusable_folds(model.preprocessed, cases, [])
    folds = generate_crossval_split(cases, seed=12345, n_splits=DRAWN_FOLDS)
    return [{side: [str(case) for case in fold[side]] for side in ("train", "val")} for fold in folds]


def _check(model: Model) -> None:
    path = model.preprocessed / f"{model.plans}.json"
    if not path.is_file():
        raise UserError(NO_PLANS.format(path))
    configurations = read_plans(path)["configurations"]
    if model.configuration not in configurations:
        raise UserError(f"{path} has no configuration '{model.configuration}' ({first_few(list(configurations))}).")
    if not _preprocessed_cases(model).is_dir():
        raise UserError(
            f"{_preprocessed_cases(model)} is not there: run nnUNetv2_preprocess -d {model.dataset_id} "
            f"-plans_name {model.plans} -c {model.configuration}."
        )
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # nnU-Net tells where it searches
            recursive_find_trainer_class_by_name(model.trainer)
    except RuntimeError:
        raise UserError(f"nnU-Net finds no trainer '{model.trainer}': check -tr, and nnunet-sfma doctor.") from None


def _with_num_epochs(configuration: str) -> dict:
    """The schema of plans that say how long the training is."""
    schema: dict = {"type": "integer", "minimum": 1}
    for key in ("num_epochs", "training", configuration, "configurations"):
        schema = {"type": "object", "required": [key], "properties": {key: schema}}
    return schema


def _preprocessed_cases(model: Model) -> Path:
    plans = PlansManager(read_plans(model.preprocessed / f"{model.plans}.json"))
    return model.preprocessed / plans.get_configuration(model.configuration).data_identifier
