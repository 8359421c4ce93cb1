"""Matplotlib figures as SVG that belongs to the page: its text colour, its font, light and dark.

A figure is drawn in placeholder colours, which become the page's CSS variables. One unit is one CSS pixel.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
import matplotlib.style
from markupsafe import escape
from matplotlib.figure import Figure

INK = "#010101"
RULE = "#010102"
PAPER = "#010103"
SERIES = ("#010104", "#010105", "#010106", "#010107", "#010108")
MARKERS = ("o", "s", "^", "D", "v")
VARIABLES = {
    INK: "currentColor",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES)},
}
POINTS_PER_INCH = 72
WIDE = 500
"""Figures above this many pixels are scrolled rather than shrunk."""
STYLE = {
    "svg.fonttype": "none",
    "font.size": 12,
    "text.parse_math": False,
    "text.color": INK,
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "hatch.color": INK,
    "path.simplify_threshold": 0.4,
}


def series_colour(number: int) -> str:
    """The placeholder colour of the n-th series."""
    return SERIES[number % len(SERIES)]


def series_marker(number: int) -> str:
    """The marker of the n-th series."""
    return MARKERS[number % len(MARKERS)]


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """A transparent figure of this many CSS pixels, in the style of the page; save it inside the block."""
    # nnU-Net's logger makes all fonts of the process large
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(width / POINTS_PER_INCH, height / POINTS_PER_INCH), layout="constrained")
        figure.patch.set_visible(False)
        yield figure


def to_svg(figure: Figure, name: str, alt: str) -> str:
    """The figure as an ``svg`` element.

    Args:
        figure: made by :func:`new_figure`.
        name: unique in the page, for the ids inside.
        alt: what the figure shows, for those who do not see it.
    """
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', "", svg, count=1)
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()
    attributes = f'role="img" aria-label="{escape(alt)}" width="{width}" height="{height}"'
    if float(width) > WIDE:
        attributes += ' class="wide"'
    svg = svg.replace("<svg", f"<svg {attributes}", 1)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'( (?:d|x|y|transform)=")([^"]*)', _rounded, svg)
    for placeholder, variable in VARIABLES.items():
        svg = svg.replace(placeholder, variable)
    return svg


def _rounded(attribute: re.Match) -> str:
    """Hundredths of a pixel are enough."""
    return attribute[1] + re.sub(r"(\.\d{2})\d+", r"\1", attribute[2])
