"""How the figures came about: folds, conventions, versions, machines and what the networks cost."""

from collections.abc import Sequence

from nnunet_sfma.reporting.models import Model
from nnunet_sfma.reporting.tables import Column, Table, decimals, words

MULTIPLY_ADDS = ("conv_macs", "matmul_macs", "accelerated_conv_macs")
HARDWARE = {"machine": "Machine", "cpu": "Processor", "cores": "Cores", "gpu": "GPU"}


def fold_table(models: Sequence[Model]) -> Table | None:
    """The state of every fold; None for plain folders of predictions."""
    rows = [
        (
            model.label,
            fold["fold"],
            fold["state"],
            fold.get("detail") or None,
            fold.get("cases"),
            None if fold.get("seconds") is None else fold["seconds"] / 3600,
            fold.get("device"),
        )
        for model in models
        for fold in model.evaluation["folds"]
    ]
    columns = (
        words("Model"),
        Column("Fold"),
        words("State"),
        words("Detail"),
        Column("Cases"),
        Column("Hours", decimals(2)),
        words("Device"),
    )
    return Table("folds", "The folds", columns, tuple(rows), headers=2) if rows else None


def convention_table(models: Sequence[Model]) -> Table:
    """The conventions in words, a column for each model."""
    texts = [model.evaluation["convention_texts"] for model in models]
    return _side_by_side("conventions", "The conventions of the metrics", "Convention", models, texts)


def metric_table(models: Sequence[Model]) -> Table:
    """What each metric is."""
    texts = {metric["title"]: metric["text"] for model in models for metric in model.evaluation["metrics"]}
    return Table("metrics", "The metrics", (words("Metric"), words("What it is")), tuple(texts.items()))


def origin_table(models: Sequence[Model]) -> Table:
    """Data, split, software and machine, a column for each model."""
    origins = [_origin(model.evaluation) for model in models]
    return _side_by_side("origin", "Data, software and machine", "What", models, origins)


def cost_table(models: Sequence[Model]) -> Table | None:
    """Parameters and multiply-adds of every network, as they were counted with the evaluation."""
    from nnunet_sfma.networks.cost import CONVENTION

    rows = [_cost_row(model) for model in models if model.evaluation["model"]]
    columns = (
        words("Model"),
        words("Network"),
        words("Input"),
        Column("Parameters (M)", decimals(2)),
        Column("conv (GMAC)", decimals(2)),
        Column("matmul (GMAC)", decimals(2)),
        Column("accelerated conv (GMAC)", decimals(2)),
        Column("Batch"),
    )
    if not rows:
        return None
    notes = [f"How it is counted: {CONVENTION}."]
    if any(row[3] is None for row in rows):
        notes.append("What is left out was not counted with the evaluation: evaluate again.")
    if any(row[3] is not None and row[6] is None for row in rows):
        notes.append("Where accelerated conv is left out, an earlier version counted it as conv: evaluate again.")
    return Table("cost", "What the networks cost", columns, tuple(rows), tuple(notes))


def _side_by_side(name: str, caption: str, first: str, models: Sequence[Model], entries: Sequence[dict]) -> Table:
    keys = dict.fromkeys(key for entry in entries for key in entry)
    columns = (words(first), *(words(model.label) for model in models))
    return Table(name, caption, columns, tuple((key, *(entry.get(key) for entry in entries)) for key in keys))


def _origin(evaluation: dict) -> dict[str, str]:
    dataset, split, model = evaluation["dataset"], evaluation["split"] or {}, evaluation["model"]
    entries = {
        "Model": evaluation["name"],
        "Data set": dataset["name"],
        "Release": dataset.get("release"),
        "Channels": ", ".join(dataset["channels"]),
        "Part": split.get("part"),
        "Split": split.get("scheme"),
        "Split from": split.get("source"),
        "Split seed": split.get("seed"),
        "Split SHA-256": split.get("sha256"),
        "Evaluation file": evaluation["path"],
        "Written": f"{evaluation['written_at']} by {evaluation['written_by']}",
        **(_training(model) if model else {}),
        **evaluation["versions"],
        **{HARDWARE.get(key, key): value for key, value in evaluation["hardware"].items()},
    }
    return {key: str(value) for key, value in entries.items() if value not in (None, "")}


def _training(model: dict) -> dict[str, str | None]:
    training = model.get("training") or {}
    recipe = ("num_epochs", "optimizer", "initial_lr", "lr_schedule", "dice_weight", "ce_weight", "pretrained")
    return {
        "Trainer": model["trainer"],
        "Plans": f"{model['plans']}, {model['configuration']}",
        "Patch": _times(model["patch_size"]),
        "Batch": model["batch_size"],
        "Spacing": _times(model["spacing"]),
        "Normalisation": ", ".join(model["normalization"]),
        "Recipe": ", ".join(f"{key}={training[key]}" for key in recipe if key in training) or None,
    }


def _times(sides: Sequence[float]) -> str:
    return " × ".join(f"{side:g}" for side in sides)


def _cost_row(model: Model) -> tuple:
    trained = model.evaluation["model"]
    cost = trained.get("cost")
    shape = cost["input"] if cost else (len(model.evaluation["dataset"]["channels"]), *trained["patch_size"])
    counted = (_scaled(cost, "parameters", 1e6), *(_scaled(cost, key, 1e9) for key in MULTIPLY_ADDS))
    return (model.label, trained["network"], _times(shape), *counted, trained["batch_size"])


def _scaled(cost: dict | None, key: str, unit: float) -> float | None:
    return cost[key] / unit if cost and key in cost else None
