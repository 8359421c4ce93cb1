"""What an evaluation did, item by item of the protocols that :mod:`nnunet_sfma.evaluation.published` keeps."""

from collections.abc import Callable, Iterable

from nnunet_sfma.json_files import valid

NOT_RECORDED = "not recorded"
RECIPE = {
    "required": ["num_epochs", "optimizer", "initial_lr", "lr_schedule", "dice_weight", "ce_weight", "pretrained"],
    "properties": {key: {"type": "number"} for key in ("initial_lr", "dice_weight", "ce_weight")},
}
NNUNETS = "nnU-Net's"


def has_folds(evaluation: dict) -> bool:
    """Whether its cases are validated in several folds."""
    return _n_folds(evaluation) > 1


def _n_folds(evaluation: dict) -> int:
    return len({case["fold"] for case in evaluation["cases"]} - {None})


def spread_over(evaluation: dict) -> str:
    """Over what its means and standard deviations are taken."""
    over = f"{_n_folds(evaluation)} folds" if has_folds(evaluation) else f"{len(evaluation['cases'])} cases"
    return f"{over}, not all of the split" if evaluation["subset"] else over


def _split(evaluation: dict) -> str:
    split = evaluation["split"]
    if not split.get("scheme"):
        return NOT_RECORDED
    seed = "" if split.get("seed") is None else f", seed {split['seed']}"
    return f"{split['scheme']}{seed} ({split['source']}), sha256 {split['sha256'][:12]}"


def _level(evaluation: dict) -> str:
    split = evaluation["split"]
    if not split.get("subjects_known"):
        return "whom the cases show is not known, so they are counted one by one"
    if not has_folds(evaluation):
        return "that of the split"
    sides = {(case["subject"], case["fold"]) for case in evaluation["cases"]}
    shared = len(sides) - len({subject for subject, _ in sides})
    return f"by case: {shared} subjects are in several folds" if shared else "by subject: nobody is in two folds"


def _folds(evaluation: dict) -> str:
    if not has_folds(evaluation):
        return "one division"
    return f"each case scored once, in its fold; means over {spread_over(evaluation)}"


def _selection(evaluation: dict) -> str:
    return {
        "cross-validation": "scores are those of the folds' validation cases, by nnU-Net's final checkpoint unless "
        "--val_best was given",
        "test": "test cases are in no fold, so no checkpoint was chosen by them",
    }.get(evaluation["split"]["part"], NOT_RECORDED)


def _input(evaluation: dict) -> str:
    return ", ".join(evaluation["dataset"]["channels"])


def _slices(evaluation: dict) -> str:
    options = evaluation["dataset"].get("release_options") or {}
    training = (evaluation["model"] or {}).get("training") or {}
    trained = f", trained on {training['slices']}" if "slices" in training else ""
    if "paper_slices" in options:
        return f"cut along {options['axis'].upper()} by the conversion, {options['paper_slices']} of them{trained}"
    return f"slices along axis {evaluation['dataset']['slice_axis']} of (z, y, x){trained}"


def _resizing(evaluation: dict) -> str:
    options, model = evaluation["dataset"].get("release_options") or {}, evaluation["model"]
    size = options.get("size")
    scored = "at that size" if _scored_resized(evaluation) else "at the original size"
    resized = f"resized to {size} x {size} by the conversion and scored {scored}" if size else "original size"
    if model is None:
        return resized
    spacing = _sizes(f"{value:.3g}" for value in model["spacing"])
    return f"{resized}; patches of {_sizes(model['patch_size'])} pixels at spacing {spacing}"


def _scored_resized(evaluation: dict) -> bool:
    """Whether the masks have the size to which the conversion resized, and were not brought back since."""
    options = evaluation["dataset"].get("release_options") or {}
    shapes = [case["shape"] for case in evaluation["cases"]]
    slices_alone = "axis" not in options or all(shape[0] == 1 for shape in shapes)
    return slices_alone and all(shape[1:] == [options.get("size")] * 2 for shape in shapes)


def _pretraining(evaluation: dict) -> str:
    training = _training_block(evaluation)
    if training is None:
        return NOT_RECORDED
    return f"{training['pretrained']}, by the plan" if training else "none in nnU-Net's recipe"


def _training(evaluation: dict) -> str:
    model, training = evaluation["model"], _training_block(evaluation)
    if model is None:
        return NOT_RECORDED
    if not training:
        return f"nnU-Net's recipe of {model['trainer'] or 'its trainer'}, batch size {model['batch_size']}"
    return (
        f"{training['num_epochs']} epochs, batch size {model['batch_size']}, {training['optimizer']} with learning "
        f"rate {training['initial_lr']:g} ({training['lr_schedule']}), {training['dice_weight']:g} Dice + "
        f"{training['ce_weight']:g} cross-entropy"
    )


def _augmentation(evaluation: dict) -> str:
    training = _training_block(evaluation)
    if training is None:
        return NOT_RECORDED
    chosen = training.get("augmentation", "nnunet")
    mirroring = "with" if training.get("test_time_mirroring", True) else "without"
    return f"{NNUNETS if chosen == 'nnunet' else chosen}, {mirroring} mirroring in prediction"


def _network(evaluation: dict) -> str:
    model = evaluation["model"]
    if model is None:
        return NOT_RECORDED
    return f"{model['network']}, plans {model['plans']}, trainer {model['trainer'] or NOT_RECORDED}"


def _training_block(evaluation: dict) -> dict | None:
    """Of the plan; empty for a trainer of nnU-Net's, None where the model is not known or the block is not ours."""
    block = {} if evaluation["model"] is None else evaluation["model"]["training"] or {}
    if evaluation["model"] is None or (block and not valid(block, RECIPE)):
        return None
    return block


def _convention(key: str) -> Callable[[dict], str]:
    return lambda evaluation: evaluation["convention_texts"][key]


def _sizes(values: Iterable) -> str:
    return " x ".join(map(str, values))


OURS: dict[str, Callable[[dict], str]] = {
    "split": _split,
    "level": _level,
    "folds": _folds,
    "selection": _selection,
    "input": _input,
    "slices": _slices,
    "resizing": _resizing,
    "pretraining": _pretraining,
    "training": _training,
    "augmentation": _augmentation,
    "network": _network,
    **{key: _convention(key) for key in ("average", "empty", "miou", "f1", "distances")},
}
"""What an evaluation did, for each key of :data:`nnunet_sfma.evaluation.published.PROTOCOL`."""
