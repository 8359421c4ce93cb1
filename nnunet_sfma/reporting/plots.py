"""The plots of the report, one function each; every one shows single cases or epochs, not only their averages."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from nnunet_sfma.reporting.models import Model, all_classes, digits_of, has_metric, with_unit
from nnunet_sfma.reporting.summary import size_range
from nnunet_sfma.reporting.svg import INK, new_figure, series_colour, series_marker, to_svg
from nnunet_sfma.reporting.tables import decimals, significant

WIDTH = 440
HEIGHT = 300
LOG_STEPS = ((8, (1, 1.5, 2, 3, 4, 5, 6, 8)), (500, (1, 2, 5)), (np.inf, (1,)))
CURVES = (
    ("Loss", (("train_losses", "training", "-"), ("val_losses", "validation", "--"))),
    ("Pseudo Dice of the validation patches", (("mean_fg_dice", "", "-"),)),
    ("Dice of the training patches", (("train_dice", "", "-"),)),
    ("Learning rate", (("lrs", "", "-"),)),
)


@dataclass(frozen=True)
class Plot:
    """An inline ``svg`` element and the sentence below it."""

    svg: str
    caption: str


def box_plot(models: Sequence[Model], key: str) -> Plot | None:
    """Quartiles of a metric per class and model, and every case as a dot; None if nobody measured it."""
    # one axis has one unit: that of the first model which measured it
    metric = next((model.metric(key) for model in models if model.metric(key)), None)
    models = [model for model in models if metric and has_metric(model, metric)]
    classes = all_classes(models)
    values = {(name, model.number): _values(model, name, key) for name in classes for model in models}
    if not any(map(len, values.values())):
        return None
    slot = len(models) + 1
    with new_figure(max(WIDTH, 60 + 26 * slot * len(classes)), HEIGHT) as figure:
        axes = figure.subplots()
        for group, name in enumerate(classes):
            for place, model in enumerate(models):
                _box(axes, group * slot + place, values[name, model.number], model.number)
        axes.set_xticks([group * slot + (len(models) - 1) / 2 for group in range(len(classes))], classes)
        axes.tick_params("x", length=0, rotation=0 if len(classes) < 5 else 30)
        last = slot * (len(classes) - 1) + len(models) - 1
        axes.set_xlim(min(-0.8, last / 2 - 2), max(last + 0.8, last / 2 + 2))
        axes.grid(axis="x", visible=False)
        axes.set_title(with_unit(metric))
        if metric["better"] == "higher":
            _share_axis(axes, [value for each in values.values() for value in each])
        else:
            axes.set_ylim(bottom=0)
        medians = [
            f"{name}, {model.label}: median {decimals(digits_of(metric))(np.median(values[name, model.number]))}"
            for name in classes
            for model in models
            if len(values[name, model.number])
        ]
        svg = to_svg(figure, f"box-{key}", f"Box plot of {metric['title']}. " + "; ".join(medians) + ".")
    wanted = sum(len(model.evaluation["cases"]) * len(model.classes) for model in models)
    absent = wanted - sum(map(len, values.values()))
    return Plot(svg, f"{with_unit(metric)} of every case." + _absent(absent, "without a value"))


def learning_curves(model: Model) -> list[Plot]:
    """Losses, Dice and learning rate over the epochs, a line for each fold."""
    folds = [fold for fold in model.evaluation["folds"] if fold.get("curves")]
    return [
        _curves(model, folds, title, curves)
        for title, curves in CURVES
        if any(fold["curves"].get(key) for fold in folds for key, _, _ in curves)
    ]


def size_plot(models: Sequence[Model], name: str) -> Plot | None:
    """Dice of every case against the volume of the class in its reference, on a logarithmic axis; None if empty."""
    models = [model for model in models if name in model.classes]
    unit = models[0].evaluation["dataset"]["volume_unit"]
    models = [model for model in models if model.evaluation["dataset"]["volume_unit"] == unit]
    points = {model.number: _sizes(model, name) for model in models}
    if not any(map(len, points.values())):
        return None
    with new_figure(WIDTH, HEIGHT) as figure:
        axes = figure.subplots()
        for number, pairs in points.items():
            axes.plot(
                *zip(*pairs, strict=True) if pairs else ((), ()),
                linestyle="",
                marker=series_marker(number),
                markersize=4.5,
                color=series_colour(number),
                alpha=0.55,
                markeredgewidth=0,
            )
        axes.set_xscale("log")
        _plain_log_ticks(axes, [volume for pairs in points.values() for volume, _ in pairs])
        _share_axis(axes, [dice for pairs in points.values() for _, dice in pairs])
        axes.set_title(name)
        axes.set_xlabel(f"volume in the reference ({unit})")
        axes.set_ylabel("Dice")
        count = sum(map(len, points.values()))
        svg = to_svg(figure, f"size-{name}", f"Scatter plot of Dice against volume of {name}, {count} cases.")
    cases = sum(len(model.evaluation["cases"]) for model in models)
    return Plot(svg, f"Dice of {name} against its size." + _absent(cases - count, "without it"))


def detection_plot(models: Sequence[Model], name: str) -> Plot | None:
    """The share of the lesions that were found, by size; None if nobody counted."""
    counted = [(model, (model.evaluation["detection_by_size"] or {}).get(name)) for model in models]
    counted = [(model, bins) for model, bins in counted if any(entry["lesions"] for entry in bins or ())]
    # one axis has one unit: that of the first model
    counted = [(model, bins) for model, bins in counted if bins[0]["unit"] == counted[0][1][0]["unit"]]
    if not counted:
        return None
    bins = [entry for entry in counted[0][1] if any(_same_bin(own, entry)["lesions"] for _, own in counted)]
    counted = [(model, [_same_bin(own, entry) for entry in bins]) for model, own in counted]
    slot = len(counted) + 0.6
    with new_figure(max(WIDTH, 60 + 44 * slot * len(bins)), HEIGHT) as figure:
        axes = figure.subplots()
        for place, (model, own) in enumerate(counted):
            _bars(axes, [index * slot + place for index in range(len(own))], own, model.number)
        centre = (len(counted) - 1) / 2
        axes.set_xticks([index * slot + centre for index in range(len(bins))], [size_range(entry) for entry in bins])
        axes.tick_params("x", length=0)
        axes.grid(axis="x", visible=False)
        axes.set_ylim(0, 1.12)
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.set_title(name)
        axes.set_xlabel(f"volume of the lesion ({bins[0]['unit']})")
        axes.set_ylabel("share found")
        found = "; ".join(
            f"{model.label}, {size_range(entry)} {entry['unit']}: {entry['detected']} of {entry['lesions']}"
            for model, own in counted
            for entry in own
        )
        svg = to_svg(figure, f"detection-{name}", f"Bar chart of lesions found by size. {found}.")
    return Plot(svg, f"Lesions of {name} that were found, by size; the numbers are found / all.")


def _values(model: Model, name: str, key: str) -> list[float]:
    values = [case["classes"].get(name, {}).get(key) for case in model.evaluation["cases"]]
    return [value for value in values if value is not None]


def _box(axes: Axes, position: float, values: Sequence[float], number: int) -> None:
    if not values:
        return
    colour = series_colour(number)
    line = {"color": colour, "linewidth": 1.4}
    axes.boxplot(
        values,
        positions=[position],
        widths=0.62,
        showfliers=False,
        boxprops=line,
        whiskerprops=line,
        capprops=line,
        medianprops={"color": INK, "linewidth": 2},
        manage_ticks=False,
    )
    jitter = np.random.default_rng(number).uniform(-0.2, 0.2, len(values))
    axes.plot(
        position + jitter,
        values,
        linestyle="",
        marker=series_marker(number),
        markersize=3.6,
        color=colour,
        alpha=0.5,
        markeredgewidth=0,
    )


def _curves(model: Model, folds: Sequence[dict], title: str, curves: Sequence[tuple[str, str, str]]) -> Plot:
    with new_figure(WIDTH, 240) as figure:
        axes = figure.subplots()
        for fold in folds:
            for key, _, line in curves:
                values = fold["curves"].get(key) or []
                epochs = range(1, len(values) + 1)
                # null is a value that was not a number, and a gap in the line
                heights = [np.nan if value is None else value for value in values]
                axes.plot(epochs, heights, line, color=series_colour(fold["fold"]), linewidth=1.5)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        if "Dice" in title:
            axes.set_ylim(0, 1)
        if title == "Learning rate":
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        alt = f"{title} of {model.label} over the epochs, {len(folds)} fold{'s' if len(folds) > 1 else ''}."
        svg = to_svg(figure, f"curve-{model.number}-{curves[0][0]}", alt)
    solid_and_dashed = "; ".join(f"{name}: {'dashed' if line == '--' else 'solid'}" for _, name, line in curves if name)
    return Plot(svg, f"{title}. {solid_and_dashed.capitalize()}." if solid_and_dashed else f"{title}.")


def _sizes(model: Model, name: str) -> list[tuple[float, float]]:
    entries = [case["classes"].get(name, {}) for case in model.evaluation["cases"]]
    pairs = [(entry.get("volume_reference"), entry.get("dice")) for entry in entries]
    return [(volume, dice) for volume, dice in pairs if volume and dice is not None]


def _share_axis(axes: Axes, values: Sequence[float]) -> None:
    """From the tenth below the lowest value up to 1."""
    bottom = np.floor(10 * min(values)) / 10
    axes.set_ylim(bottom - 0.02, 1.02)


def _plain_log_ticks(axes: Axes, volumes: Sequence[float]) -> None:
    """Ticks at round numbers, so that even an axis shorter than a power of ten has some."""
    low, high = min(volumes), max(volumes)
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    steps = next(steps for span, steps in LOG_STEPS if high / low < span)
    axes.set_xlim(low / 1.1, high * 1.1)
    axes.xaxis.set_major_locator(FixedLocator([step * 10.0**power for power in powers for step in steps]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: significant(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _same_bin(bins: Sequence[dict], wanted: dict) -> dict:
    """The bin of these sizes, empty if another data set was counted in other bins."""
    same = (entry for entry in bins if all(entry[key] == wanted[key] for key in ("from", "to", "unit")))
    return next(same, {**wanted, "lesions": 0, "detected": 0})


def _bars(axes: Axes, positions: Sequence[float], bins: Sequence[dict], number: int) -> None:
    shares = [entry["detected"] / entry["lesions"] if entry["lesions"] else 0 for entry in bins]
    axes.bar(positions, shares, width=0.86, color=series_colour(number), alpha=0.75)
    for position, share, entry in zip(positions, shares, bins, strict=True):
        axes.text(position, share + 0.02, f"{entry['detected']}/{entry['lesions']}", ha="center", fontsize=10)


def _absent(count: int, why: str) -> str:
    return f" Left out: {count} {why}." if count else ""
