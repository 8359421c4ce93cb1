"""The trained models of a data set that a new split or new plans leave behind."""

import os
from pathlib import Path


def left_behind(dataset: str, replaced: str, remedy: str, plans: str | None = None) -> list[str]:
    """Return a line that names the trained models which no longer match; none if there are no such models.

    Args:
        dataset: full name.
        replaced: what was replaced.
        remedy: what to do, the end of the sentence.
        plans: only models of these plans; of all if None.
    """
    models = _trained_models(dataset, plans)
    return [f"Trained with {replaced} that was replaced: {'; '.join(models)}: {remedy}."] if models else []


def _trained_models(dataset: str, plans: str | None) -> list[str]:
    """Those that have a checkpoint, each as ``Trainer__Plans__Configuration (fold 0, fold 1)``."""
    if not os.environ.get("nnUNet_results"):
        return []
    described = []
    for model in sorted(Path(os.environ["nnUNet_results"], dataset).glob(f"*__{plans or '*'}__*")):
        folds = {path.parent.name.replace("_", " ") for path in model.glob("fold_*/checkpoint_*.pth")}
        described += [f"{model.name} ({', '.join(sorted(folds))})"] if folds else []
    return described
