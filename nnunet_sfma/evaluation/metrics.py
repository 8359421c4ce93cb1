"""All metrics with title, unit and direction, and their values for one class of one case under given conventions."""

from dataclasses import dataclass

from nnunet_sfma.evaluation.conventions import Conventions
from nnunet_sfma.evaluation.lesions import lesion_count_difference, lesion_f1, lesion_recall
from nnunet_sfma.evaluation.objects import object_f1
from nnunet_sfma.evaluation.surface import nsd

JACCARD_THRESHOLD = 0.65


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        key: in every file.
        title: for people.
        better: "higher", "lower", or "" if neither is.
        text: what it is.
        unit: "", "distance", "volume" or "pixel"; see :func:`unit_of`.
    """

    key: str
    title: str
    better: str
    text: str
    unit: str = ""


METRICS = {
    metric.key: metric
    for metric in (
        Metric("dice", "Dice", "higher", "2 TP / (2 TP + FP + FN)"),
        Metric("iou", "IoU", "higher", "TP / (TP + FP + FN)"),
        Metric("miou", "mIoU", "higher", "mean of the classes' IoU"),
        Metric("precision", "Precision", "higher", "TP / (TP + FP)"),
        Metric("recall", "Recall (sensitivity)", "higher", "TP / (TP + FN)"),
        Metric("f1", "F1", "higher", "harmonic mean of precision and recall"),
        Metric("specificity", "Specificity", "higher", "TN / (TN + FP)"),
        Metric("accuracy", "Accuracy", "higher", "(TP + TN) / all"),
        Metric("threshold_jaccard", "Threshold Jaccard", "higher", "IoU where it is at least 0.65, else 0 (ISIC 2018)"),
        Metric("hd95", "HD95", "lower", "the larger of the two directed 95th percentiles of the distances", "distance"),
        Metric("hd95_pooled", "HD95 (pooled)", "lower", "95th percentile of both directions together", "distance"),
        Metric("asd", "ASD", "lower", "mean distance from the prediction's surface to the label's", "distance"),
        Metric("assd", "ASSD", "lower", "mean distance between the surfaces, both directions", "distance"),
        Metric("nsd", "NSD", "higher", "share of both surfaces within the tolerance of the other one"),
        Metric("volume_difference", "Volume difference", "lower", "absolute difference of the volumes", "volume"),
        Metric("lesion_f1", "Lesion F1", "higher", "F1 of connected components; any overlap is a hit"),
        Metric("lesion_recall", "Lesion recall", "higher", "share of the label's components that are hit"),
        Metric("lesion_count_difference", "Lesion count difference", "lower", "absolute, of connected components"),
        Metric("object_f1", "Object F1", "higher", "F1 of objects; at least half of the area is a hit (GlaS)"),
        Metric("object_dice", "Object Dice", "higher", "Dice of matching objects, weighted by area (GlaS)"),
        Metric("object_hausdorff", "Object Hausdorff", "lower", "of matching objects, weighted by area", "pixel"),
    )
}
OVERLAPS = ("dice", "iou", "precision", "recall", "f1", "specificity", "accuracy", "threshold_jaccard")
DISTANCES = ("hd95", "hd95_pooled", "asd", "assd")
OBJECTS = ("object_f1", "object_dice", "object_hausdorff")


def unit_of(metric: Metric, conventions: Conventions, volume_unit: str) -> str:
    """The unit that stands beside a number; empty for ratios and counts."""
    return {"distance": conventions.distances, "volume": volume_unit}.get(metric.unit, metric.unit)


def class_metrics(measured: dict, conventions: Conventions) -> tuple[dict[str, float | None], dict[str, int]]:
    """The metrics of one class of one case; None where one has no value.

    Args:
        measured: by :func:`nnunet_sfma.evaluation.measure.measure_case`, of one class.
        conventions: of empty masks and averaging.

    Returns:
        The metrics, and of how many items each overlap is the mean: 1 or, slice by slice, the slices that have a value.
    """
    counts = measured["counts"]
    empty = (counts["tp"] + counts["fp"] == 0, counts["tp"] + counts["fn"] == 0)
    overlaps, items = _overlaps(measured, conventions)
    if "surface" not in measured:  # a data set with an ignore label
        return overlaps, items
    metrics = {**overlaps, **_surfaces(measured, conventions, empty)}
    metrics["volume_difference"] = abs(measured["volume_prediction"] - measured["volume_reference"])
    lesions = measured["lesions"]
    metrics["lesion_f1"] = _ruled(lesion_f1(lesions), conventions, empty)
    metrics["lesion_recall"] = _ruled(lesion_recall(lesions), conventions, empty)
    metrics["lesion_count_difference"] = lesion_count_difference(lesions)
    if measured.get("objects"):
        metrics.update(_objects(measured, conventions, empty))
    return metrics, items


def ious(measured: dict, conventions: Conventions) -> list[tuple[float | None, int]]:
    """What mIoU is the mean of: each class' IoU in one case, and of how many items that is the mean.

    Args:
        measured: by :func:`nnunet_sfma.evaluation.measure.measure_case`.
        conventions: whether the background is among the classes.
    """
    background = [measured["background"]] if conventions.miou == "with-background" else []
    overlaps = [_overlaps(each, conventions) for each in (*measured["classes"].values(), *background)]
    return [(values["iou"], items["iou"]) for values, items in overlaps]


def mean(values: list[float | None]) -> float | None:
    """The mean of the values that there are."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def harmonic(precision: float | None, recall: float | None) -> float | None:
    """F1 of a precision and a recall."""
    if precision is None or recall is None:
        return None
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _overlaps(measured: dict, conventions: Conventions) -> tuple[dict[str, float | None], dict[str, int]]:
    counts = measured["counts"]
    if conventions.average == "volume":
        items = [(1, _of_counts(counts["tp"], counts["fp"], counts["fn"], counts["tn"], conventions))]
    else:
        # slices without any foreground are alike
        items = [(measured["empty_slices"], _of_counts(0, 0, 0, 1, conventions))]
        items += [(1, _of_counts(*row, conventions)) for row in measured["slices"]]
    values, numbers = {}, {}
    for key in OVERLAPS:
        there = [(n, item[key]) for n, item in items if item[key] is not None and n]
        numbers[key] = sum(n for n, _ in there)
        values[key] = sum(n * value for n, value in there) / numbers[key] if there else None
    return values, numbers


def _of_counts(tp: int, fp: int, fn: int, tn: int, conventions: Conventions) -> dict[str, float | None]:
    empty = (tp + fp == 0, tp + fn == 0)
    dice = _ruled(_ratio(2 * tp, 2 * tp + fp + fn), conventions, empty)
    iou = _ruled(_ratio(tp, tp + fp + fn), conventions, empty)
    return {
        "dice": dice,
        "iou": iou,
        "precision": _ruled(_ratio(tp, tp + fp), conventions, empty),
        "recall": _ruled(_ratio(tp, tp + fn), conventions, empty),
        "f1": dice,
        "specificity": _ratio(tn, tn + fp),
        "accuracy": _ratio(tp + tn, tp + fp + fn + tn),
        "threshold_jaccard": None if iou is None else iou * (iou >= JACCARD_THRESHOLD),
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _ruled(value: float | None, conventions: Conventions, empty: tuple[bool, bool]) -> float | None:
    """A ratio, where the rule for empty masks allows it its value.

    Args:
        value: None if it is 0/0.
        conventions: with the rule.
        empty: whether prediction and label are empty.
    """
    no_prediction, no_reference = empty
    if conventions.empty == "transunet" and any(empty):
        return float(not no_prediction)
    if conventions.empty == "challenge" and value is None:
        return float(no_prediction and no_reference)
    return value


def _surfaces(measured: dict, conventions: Conventions, empty: tuple[bool, bool]) -> dict[str, float | None]:
    surface = measured["surface"]
    if not any(empty):
        distances = {key: surface[key] for key in DISTANCES}
    elif conventions.empty == "nnunet":
        distances = dict.fromkeys(DISTANCES)
    elif conventions.empty == "challenge" and not all(empty):
        distances = dict.fromkeys(DISTANCES, measured["diagonal"])
    else:
        distances = dict.fromkeys(DISTANCES, 0.0)
    return {**distances, "nsd": _ruled(nsd(surface), conventions, empty)}


def _objects(measured: dict, conventions: Conventions, empty: tuple[bool, bool]) -> dict[str, float | None]:
    objects = measured["objects"]
    hausdorff = objects["object_hausdorff"]
    if hausdorff is None and conventions.empty != "nnunet":
        hausdorff = measured["pixel_diagonal"] if conventions.empty == "challenge" and not all(empty) else 0.0
    return {
        "object_f1": _ruled(object_f1(objects), conventions, empty),
        "object_dice": _ruled(objects["object_dice"], conventions, empty),
        "object_hausdorff": hausdorff,
    }
