"""What all figures share: one style, colours of embeddings, empty figures, and writing as SVG or PNG."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graticule.errors import DataError, need

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

WIDTH_IN = 4.6  # a small multiple: still legible when a phone shows it 350 px wide
INK, QUIET, LINE, FAINT = "#1d2329", "#5a646e", "#d9dcdf", "#eff0f1"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#6a51a3", "#7f7f7f")  # Okabe and Ito
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
DASHES = ("-", "--", ":", "-.")
LONGEST_NAME = 34
PNG_DPI, RASTER_DPI = 160, 125  # of PNG files, and of dots and land inside SVG
WEBP_DPI, WEBP_QUALITY = 144, 60  # of pictures of many shapes in a page

STYLE = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.parse_math": False,  # names may hold dollar signs
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": QUIET,
    "axes.edgecolor": "#aab1b8",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "text.color": INK,
    "xtick.color": "#aab1b8",
    "ytick.color": "#aab1b8",
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": QUIET,
    "xtick.minor.bottom": False,
    "ytick.minor.left": False,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # the same picture on every machine
    "svg.hashsalt": "graticule",
}


@dataclass(frozen=True)
class Look:
    """How one embedding is drawn in every figure."""

    colour: str
    marker: str
    dash: str


def looks_of(names: Iterable[str]) -> dict[str, Look]:
    """Name -> look, in order: make it once for a report, so that an embedding keeps its colour in all figures."""
    return {
        name: Look(COLOURS[i % 8], MARKERS[(i + i // 8) % 8], DASHES[i // 8 % 4])
        for i, name in enumerate(dict.fromkeys(names))
    }


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's defaults with ours on top, whatever the user's own settings; put back afterwards."""
    matplotlib = need("matplotlib", "viz")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def blank(width_in: float = WIDTH_IN, height_in: float = 3.2, title: str = "") -> tuple[Figure, Axes]:
    """A figure with one pair of axes, outside pyplot's global state."""
    figure = need("matplotlib.figure", "viz").Figure(figsize=(width_in, height_in), layout="constrained")
    axes = figure.subplots()
    if title:
        axes.set_title(title)
    return figure, axes


@style()
def sentence(text: str, title: str = "") -> Figure:
    """A figure that says why there is nothing to draw."""
    figure, axes = blank(height_in=1.4, title=title)
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", color=QUIET, wrap=True, transform=axes.transAxes)
    return figure


@style()
def key(looks: Mapping[str, Look]) -> Figure:
    """A legend on its own, for a grid of figures drawn with `legend=False`."""
    if not looks:
        return sentence("No embeddings.")
    figure, axes = blank(height_in=0.2 + 0.21 * -(-len(looks) // 2))
    axes.set_axis_off()
    for name, look in looks.items():
        axes.plot([], [], label=shortened(name), color=look.colour, marker=look.marker, linestyle=look.dash)
    axes.legend(loc="center", ncols=min(2, len(looks)), handlelength=2.6)
    return figure


def legend(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """The legend below the axes, where it covers no data."""
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        columns = 1 if max(map(len, labels)) > 26 else min(columns, len(labels))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=2.6)


def shortened(name: str, longest: int = LONGEST_NAME) -> str:
    """A name on one line that leaves room for the data."""
    name = " ".join(name.split())
    return name if len(name) <= longest else name[: longest - 1].rstrip() + "…"


def column(values: ArrayLike, what: str, length: int | None = None) -> Floats:
    """A float64 (n,) array, or DataError with the name of what has another shape."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or (length is not None and len(array) != length):
        expected = "(n,)" if length is None else f"({length},)"
        raise DataError(f"{what} must be an array of shape {expected}, got {array.shape}.")
    return array


def plain_log_axis(axis: Any, ticks: Sequence[float] | None = None) -> None:
    """Numbers such as 1,000 and 0.01 on a logarithmic axis, without powers; `ticks` instead of decades."""
    ticker = need("matplotlib.ticker", "viz")
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(ticker.FuncFormatter(_positional))
    if ticks is not None:
        axis.set_major_locator(ticker.FixedLocator(list(ticks)))


def _positional(value: float, _: int | None) -> str:
    return f"{value:,.10g}" if value >= 1 else np.format_float_positional(value, precision=10, trim="-")


def svg(figure: Figure) -> str:
    """The figure as SVG text, byte for byte the same each time."""
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    return _saved(figure, "svg", RASTER_DPI, nothing).decode("utf-8")


def png(figure: Figure) -> bytes:
    """The figure as a PNG file, byte for byte the same each time."""
    return _saved(figure, "png", PNG_DPI, {"Software": None})


def webp(figure: Figure) -> bytes:
    """The figure as a small WebP file for a page, byte for byte the same each time."""
    return _saved(figure, "webp", WEBP_DPI, None, pil_kwargs={"quality": WEBP_QUALITY, "method": 4})


def _saved(figure: Figure, kind: str, dpi: int, metadata: dict[str, Any] | None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata, **options)
    return buffer.getvalue()
