"""Slices of single cases with what the prediction found, missed and added."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nnunet_sfma.files import sha256
from nnunet_sfma.reporting.cases import dice_of, typical_cases
from nnunet_sfma.reporting.images import jpeg_uri, png_uri
from nnunet_sfma.reporting.models import Model
from nnunet_sfma.reporting.tables import decimals

SIDE = 440
PERIOD = 8
FAINT, EVEN, STRONG = 0.35, 0.62, 0.9
BORDER = (15, 15, 15)


@dataclass(frozen=True)
class Mark:
    """How one kind of voxel is drawn: a colour, and a pattern that survives printing in grey."""

    title: str
    colour: tuple[int, int, int]
    pattern: str


# The safe colours stay apart, by a CIEDE2000 of at least 24, for each of the three kinds of colour blindness.
SCHEMES = {
    "safe": (
        Mark("true positive", (0xF0, 0xE4, 0x42), "plain"),
        Mark("false positive", (0xD5, 0x5E, 0x00), "striped"),
        Mark("false negative", (0x56, 0xB4, 0xE9), "dotted"),
        Mark("found as another class", (0x7B, 0x2D, 0x8E), "chequered"),
    ),
    "paper": (
        Mark("true positive", (0xFF, 0xE0, 0x00), "plain"),
        Mark("false positive (which SFMANet's paper calls true negative)", (0xE3, 0x00, 0x0F), "striped"),
        Mark("false negative", (0x00, 0xB0, 0x50), "dotted"),
        Mark("found as another class", (0x30, 0x50, 0xFF), "chequered"),
    ),
}
NOTHING, FOUND, ADDED, MISSED, CONFUSED = range(5)


@dataclass(frozen=True)
class LegendEntry:
    """A mark as it looks in the pictures, and its meaning."""

    image: str
    title: str


@dataclass(frozen=True)
class Overlay:
    """A case: data URIs of a slice without and with marks, None if there is nothing to show.

    ``notes`` are sentences on what could not be read.
    """

    title: str
    caption: str
    size: tuple[int, int]
    plain: str | None
    marked: str | None
    alt: str
    notes: tuple[str, ...]


def draw_overlays(model: Model, colours: str) -> list[Overlay]:
    """The best, the median and the worst case of a model.

    Args:
        model: one with cases.
        colours: a key of SCHEMES.
    """
    return [_draw(model, word, case, SCHEMES[colours]) for word, case in typical_cases(model)]


def legend(models: Sequence[Model], colours: str) -> list[LegendEntry]:
    """The marks of a scheme; a confusion of classes needs two of them."""
    several = any(len(model.classes) > 1 for model in models)
    marks = SCHEMES[colours] if several else SCHEMES[colours][: CONFUSED - 1]
    kinds = range(FOUND, FOUND + len(marks))
    grey = np.full((20, 36, 3), 110.0)
    swatches = [png_uri(_mark(grey, np.full((20, 36), kind), SCHEMES[colours])) for kind in kinds]
    return [LegendEntry(swatch, mark.title) for swatch, mark in zip(swatches, marks, strict=True)]


def _draw(model: Model, word: str, case: dict, marks: Sequence[Mark]) -> Overlay:
    title = f"{word}: {case['case']}"
    dice = _dice_sentence(case)
    try:
        _refuse_other_reference(case)
        reference, prediction = (_read_labels(case[part], model) for part in ("reference", "prediction"))
        if reference.shape != prediction.shape:
            raise _UnreadableError(f"{case['prediction']} has another shape than its label.")
        kinds = compare_labels(reference, prediction, model.evaluation["dataset"])
    except _UnreadableError as error:
        return Overlay(title, dice, (0, 0), None, None, "", (str(error),))
    axis = model.evaluation["dataset"]["slice_axis"]
    index = telling_slice(kinds, axis)
    notes = []
    try:
        image = _shown(_read_image(case, model, kinds.shape), axis, index)
    except _UnreadableError as error:
        notes.append(f"{error} Label and prediction are drawn on black.")
        image = np.zeros((*_cut(kinds, axis, index).shape, 3))
    size = _display_size(case["spacing"], kinds.shape, axis)
    image = np.asarray(Image.fromarray(image.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC), float)
    areas = _enlarge(_cut(kinds, axis, index), size)
    borders = _enlarge(_cut(kinds * 1000 + np.where(kinds > 0, reference, 0), axis, index), size)
    marked = _mark(image, areas, marks, borders)
    fold = "" if case["fold"] is None else f", fold {case['fold']}"
    place = f"{fold}, slice {index} of {kinds.shape[axis]}" if kinds.shape[axis] > 1 else fold
    return Overlay(
        title=title,
        caption=f"{dice}{place}",
        size=size,
        plain=None if notes else jpeg_uri(image),
        marked=jpeg_uri(marked),
        alt=f"{case['case']}, {_counts(_cut(kinds, axis, index))}",
        notes=tuple(notes),
    )


def compare_labels(reference: np.ndarray, prediction: np.ndarray, dataset: dict) -> np.ndarray:
    """What became of every voxel: NOTHING, FOUND, ADDED, MISSED or CONFUSED with another class.

    Voxels whose reference is neither background nor a class, such as nnU-Net's ignore label, are NOTHING.

    Args:
        reference, prediction: label maps (Z, Y, X).
        dataset: the evaluation's entry with ``class_labels`` and ``background_label``.
    """
    labels = [label for several in dataset["class_labels"].values() for label in several]
    wanted, given = np.isin(reference, labels), np.isin(prediction, labels)
    judged = wanted | (reference == dataset["background_label"])
    kinds = np.select(
        [wanted & given & (reference == prediction), wanted & given, wanted, given],
        [FOUND, CONFUSED, MISSED, ADDED],
        NOTHING,
    )
    return np.where(judged, kinds, NOTHING)


def telling_slice(kinds: np.ndarray, axis: int) -> int:
    """The slice with most disagreement; without any, the one with most of the classes, else the middle."""
    others = tuple(other for other in range(3) if other != axis)
    for counted in (kinds > FOUND, kinds == FOUND):
        counts = counted.sum(others)
        if counts.any():
            return int(counts.argmax())
    return kinds.shape[axis] // 2


class _UnreadableError(Exception):
    """A file that the report has to do without; its text is the sentence that says so."""


def _refuse_other_reference(case: dict) -> None:
    """An evaluation may come from elsewhere: only a label that it was made with leads to files of this disk."""
    path = Path(case["reference"])
    if not path.is_file():
        raise _UnreadableError(f"{path} is not there any more.")
    try:
        same = sha256(path) == case.get("reference_sha256")
    except OSError as error:
        raise _UnreadableError(f"{path} could not be read.") from error
    if not same:
        raise _UnreadableError(f"{path} is not the label that was evaluated.")


def _read_labels(path: str, model: Model) -> np.ndarray:
    return _read(path, model, lambda reader: reader.read_seg(path)[0][0])


def _read_image(case: dict, model: Model, shape: tuple[int, ...]) -> np.ndarray:
    """(Z, Y, X) of the first channel, or (Z, Y, X, 3) of a picture."""
    if not case["images"]:
        raise _UnreadableError("The image was not found.")
    path = case["images"][0]
    channels = _read(path, model, lambda reader: reader.read_images([path])[0])
    image = np.moveaxis(channels, 0, -1) if len(channels) == 3 else channels[0]
    if image.shape[:3] != shape:
        raise _UnreadableError(f"{path} has another shape than its label.")
    return image


def _read(path: str, model: Model, read) -> np.ndarray:
    from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_file_ending

    if not Path(path).is_file():
        raise _UnreadableError(f"{path} is not there any more.")
    try:
        reader = determine_reader_writer_from_file_ending(model.evaluation["dataset"]["file_ending"], verbose=False)()
        return np.asarray(read(reader))
    # every library behind the readers has exceptions of its own, and a picture is not worth a report
    except Exception as error:
        raise _UnreadableError(f"{path} could not be read.") from error


def _shown(image: np.ndarray, axis: int, index: int) -> np.ndarray:
    """A slice as RGB, 0 to 255; grey values between the first and last percent of the volume."""
    plane = _cut(image, axis, index)
    if plane.ndim == 3:
        return np.clip(plane, 0, 255)
    image, plane = np.nan_to_num(image, posinf=0, neginf=0), np.nan_to_num(plane, posinf=0, neginf=0)
    low, high = np.percentile(image, (1, 99.5))
    grey = np.clip((plane - low) / max(high - low, 1e-9), 0, 1) * 255
    return np.repeat(grey[..., None], 3, axis=-1)


def _cut(volume: np.ndarray, axis: int, index: int) -> np.ndarray:
    """A slice in the order of the file, but z points upwards."""
    plane = np.take(volume, index, axis)
    return plane if axis == 0 else plane[::-1]


def _display_size(spacing: Sequence[float], shape: Sequence[int], axis: int) -> tuple[int, int]:
    """(width, height) in pixels, in the proportions of the body."""
    height, width = (spacing[other] * shape[other] for other in range(3) if other != axis)
    scale = SIDE / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _enlarge(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST))


def _mark(image: np.ndarray, areas: np.ndarray, marks: Sequence[Mark], borders: np.ndarray | None = None) -> np.ndarray:
    """Blend the marks into an RGB image; dark lines run where ``borders`` changes."""
    marked = image.copy()
    for kind, mark in enumerate(marks, FOUND):
        area = areas == kind
        strength = _strength(mark.pattern, areas.shape)[..., None]
        blended = (1 - strength) * image + strength * np.array(mark.colour, float)
        marked[area] = blended[area]
    if borders is not None:
        marked[_lines(borders)] = BORDER
    return marked


def _strength(pattern: str, shape: tuple[int, int]) -> np.ndarray:
    """How much of its colour a pattern gives to each pixel, 0 to 1."""
    y, x = np.indices(shape)
    if pattern == "striped":
        strong = (x + y) % PERIOD < PERIOD // 2
    elif pattern == "dotted":
        strong = (x % PERIOD - 3.5) ** 2 + (y % PERIOD - 3.5) ** 2 < 6
    elif pattern == "chequered":
        strong = (x // 4 + y // 4) % 2 == 0
    else:
        return np.full(shape, EVEN)
    return np.where(strong, STRONG, FAINT)


def _lines(labels: np.ndarray) -> np.ndarray:
    lines = np.zeros(labels.shape, bool)
    lines[1:] |= labels[1:] != labels[:-1]
    lines[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    return lines


def _dice_sentence(case: dict) -> str:
    show = decimals(3)
    classes = {name: values.get("dice") for name, values in case["classes"].items()}
    single = ", ".join(f"{name} {show(value)}" for name, value in classes.items() if value is not None)
    return f"Dice {show(dice_of(case))}" + (f" ({single})" if len(classes) > 1 else "")


def _counts(kinds: np.ndarray) -> str:
    names = {FOUND: "found", ADDED: "added", MISSED: "missed", CONFUSED: "found as another class"}
    return ", ".join(f"{int((kinds == kind).sum())} pixels {name}" for kind, name in names.items())
