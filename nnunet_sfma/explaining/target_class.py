"""The class that is explained: its labels, and the output of the network that belongs to it."""

from dataclasses import dataclass

import numpy as np
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_sfma.errors import UserError


@dataclass(frozen=True)
class TargetClass:
    """A foreground class.

    Attributes:
        name: as in dataset.json.
        labels: the values that a label map has there; several for a region.
        channel: of the network's logits.
    """

    name: str
    labels: tuple[int, ...]
    channel: int

    def mask(self, label_map: np.ndarray) -> np.ndarray:
        """Where a label map of any shape has this class, boolean."""
        return np.isin(label_map, self.labels)


def find_class(labels: LabelManager, name: str | None) -> TargetClass:
    """The foreground class of that name; the first of dataset.json for None.

    Raises:
        UserError: if there is no such class.
    """
    classes = {key: np.atleast_1d(value).tolist() for key, value in labels.label_dict.items() if key != "ignore"}
    names = [key for key, values in classes.items() if values != [0]]
    name = names[0] if name is None else name
    if name not in names:
        raise UserError(f"The data set has no class '{name}': it has {', '.join(names)}.")
    channel = names.index(name) if labels.has_regions else labels.all_labels.index(classes[name][0])
    return TargetClass(name, tuple(classes[name]), channel)
