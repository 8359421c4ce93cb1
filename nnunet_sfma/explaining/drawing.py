"""Figures as PNG pictures of modest size."""

import io
from dataclasses import dataclass

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch.nn import functional as F

from nnunet_sfma.explaining.panels import Curves, FigureOfPanels, Matrix, Overlay, Panel

COLOUR_MAP = "viridis"
LABEL_COLOUR, PREDICTION_COLOUR = "white", "#ff5c39"
CURVE_COLOURS = ("#3b528b", "#e08214")  # dark blue and orange differ for everybody, and in brightness
LARGEST_FILE = 150_000
RESOLUTION = 110  # dots per inch


@dataclass(frozen=True)
class Scene:
    """The slice that all figures of a case show.

    Attributes:
        image: (H, W), the padded patch.
        label: (H, W), boolean; None if nobody has labelled it.
        prediction: (H, W), boolean.
        inside: rows and columns of (H, W) that hold the image; the rest is padding.
        pixel_aspect: height of a pixel divided by its width.
        title: above the slice.
    """

    image: np.ndarray
    label: np.ndarray | None
    prediction: np.ndarray
    inside: tuple[slice, slice]
    pixel_aspect: float
    title: str

    @property
    def is_padded(self) -> bool:
        """Whether there is anything but the image."""
        return self.image[self.inside].shape != self.image.shape


@style.context("default")  # nnU-Net's logger makes all fonts of a process large
def draw(content: FigureOfPanels, scene: Scene) -> bytes:
    """The PNG of a figure: the slice and, beside it, the panels; less than 150 kB."""
    rows, columns = len(content.rows), len(content.columns) + 1
    height, width = scene.image.shape
    panel_height = 1.5 * min(max(height * scene.pixel_aspect / width, 0.6), 1.6)
    figure = Figure(figsize=(1.75 * columns + 0.4, panel_height * rows + 0.55), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.set_frame_on(False)
    _draw_slice(axes[0, 0], scene)
    for axis, heading in zip(axes[0, 1:], content.columns, strict=True):
        axis.set_title(heading, fontsize=9)
    for line, (name, panels) in zip(axes[:, 1:], content.rows.items(), strict=True):
        line[0].set_ylabel(name, fontsize=9)
        for axis, panel in zip(line, panels, strict=True):
            _draw_panel(axis, panel, scene)
    _add_legend(figure, content, scene)
    return _small_png(figure)


def _draw_slice(axis: Axes, scene: Scene) -> None:
    axis.set_title(scene.title, fontsize=9)
    _show_image(axis, scene)
    _draw_outlines(axis, scene)


def _show_image(axis: Axes, scene: Scene) -> None:
    low, high = np.percentile(scene.image[scene.inside], (1, 99))
    axis.imshow(scene.image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=scene.pixel_aspect)


def _draw_outlines(axis: Axes, scene: Scene) -> None:
    for mask, colour in ((scene.label, LABEL_COLOUR), (scene.prediction, PREDICTION_COLOUR)):
        if mask is not None and mask.any() and not mask.all():
            outline = axis.contour(mask, levels=[0.5], colors=[colour], linewidths=0.9)
            outline.set_path_effects([withStroke(linewidth=1.8, foreground="black")])
    rows, columns = scene.inside
    if scene.is_padded:
        corner, size = (columns.start - 0.5, rows.start - 0.5), (columns.stop - columns.start, rows.stop - rows.start)
        axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor="silver", linestyle=":", linewidth=0.8))


def _draw_panel(axis: Axes, panel: Panel | None, scene: Scene) -> None:
    if isinstance(panel, Overlay):
        _draw_overlay(axis, panel, scene)
    elif isinstance(panel, Curves):
        _draw_curves(axis, panel)
    elif isinstance(panel, Matrix):
        _draw_matrix(axis, panel)


def _draw_overlay(axis: Axes, panel: Overlay, scene: Scene) -> None:
    values = panel.values.detach().float().cpu()
    size = scene.image.shape
    raised = F.interpolate(values[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
    _show_image(axis, scene)
    low, high = panel.limits or (values.min(), values.max())
    drawn = axis.imshow(
        raised.numpy(), cmap=COLOUR_MAP, alpha=0.65, aspect=scene.pixel_aspect, vmin=float(low), vmax=float(high)
    )
    _draw_outlines(axis, scene)
    if panel.pixel is not None:
        y, x = (
            (place + 0.5) * side / length - 0.5
            for place, side, length in zip(panel.pixel, size, values.shape, strict=True)
        )
        axis.plot(x, y, marker="+", color="white", markersize=8)
    _add_colour_bar(axis, drawn)


def _add_colour_bar(axis: Axes, drawn) -> None:
    """A bar that ends where the values do."""
    low, high = drawn.get_clim()
    bar = axis.figure.colorbar(drawn, ax=axis, ticks=[low, high], shrink=0.85, aspect=14, pad=0.02)
    bar.solids.set_alpha(1)
    bar.outline.set_visible(False)
    bar.ax.set_yticklabels(_short(low, high), fontsize=7)


def _short(low: float, high: float) -> tuple[str, str]:
    """Both ends with as few digits, two to four, as tell them apart; next to nothing is 0."""
    low = 0.0 if low < high / 200 else low
    whole = len(f"{high:.0f}")
    for digits in range(max(2, whole), max(4, whole) + 1):
        ends = f"{low:.{digits}g}", f"{high:.{digits}g}"
        if ends[0] != ends[1]:
            break
    return ends


def _draw_curves(axis: Axes, panel: Curves) -> None:
    axis.set_frame_on(True)
    for colour, (name, values) in zip(CURVE_COLOURS, panel.values.items(), strict=False):
        ordered = np.sort(values.detach().float().cpu().numpy())[::-1]
        axis.plot(np.arange(1, len(ordered) + 1), ordered, color=colour, linewidth=1.5, label=name)
    if panel.even is not None:
        axis.axhline(panel.even, color="gray", linestyle="--", linewidth=0.8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xticks([1, len(ordered)])
    axis.set_xlabel("channel, ordered", fontsize=7, labelpad=-6)
    axis.yaxis.set_major_locator(MaxNLocator(4))
    axis.tick_params(labelsize=7)


def _draw_matrix(axis: Axes, panel: Matrix) -> None:
    drawn = axis.imshow(panel.values.detach().float().cpu().numpy(), cmap=COLOUR_MAP, aspect="equal")
    axis.set_xlabel("source", fontsize=7)
    _add_colour_bar(axis, drawn)


def _add_legend(figure: Figure, content: FigureOfPanels, scene: Scene) -> None:
    outlines = {"label": LABEL_COLOUR, "prediction": PREDICTION_COLOUR}
    if scene.label is None:
        del outlines["label"]
    handles = [Line2D([], [], color=colour, label=name) for name, colour in outlines.items()]
    panels = [panel for row in content.rows.values() for panel in row]
    curves = next((panel for panel in panels if isinstance(panel, Curves)), None)
    if curves:
        handles += [Line2D([], [], color=c, label=name) for name, c in zip(curves.values, CURVE_COLOURS, strict=False)]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        fontsize=8,
        facecolor="#b0b0b0",
        edgecolor="none",
    )


def _small_png(figure: Figure) -> bytes:
    """The figure with up to 256 colours, at a lower resolution where that makes too large a file."""
    canvas = FigureCanvasAgg(figure)
    resolution = RESOLUTION
    while True:
        figure.set_dpi(resolution)
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        buffer = io.BytesIO()
        # the fast method: the better ones take many seconds for a noisy image
        picture.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        if buffer.tell() < LARGEST_FILE:
            return buffer.getvalue()
        resolution *= 0.95 * (LARGEST_FILE / buffer.tell()) ** 0.5
        figure.set_layout_engine("none")  # the panels stay where the first drawing has put them
