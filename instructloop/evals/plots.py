"""Small figures as inline SVG that follows the page's colours, made with matplotlib; equal input, equal bytes."""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that stand for the page's CSS variables; no figure uses them for anything else.
INK, MUTED, GRID, CARD = "#010101", "#010102", "#010103", "#010104"
VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", CARD: "var(--card)"}
NUM_COLOURS = 9
SHAPES = {"circle": "o", "square": "s", "diamond": "D"}
NARROW, WIDE = 4.3, 9.0  # inches; one unit of the page is 1/72 of one
PITCH, GAP = 0.27, 0.20  # inches between the marks of a row, and between rows
SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 12,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "text.color": INK,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.solid_capstyle": "round",
}


def colour(index: int) -> str:
    """Return the stand-in for the page's series colour `index`."""
    return f"#0200{index % NUM_COLOURS:02x}"


@dataclass(frozen=True, slots=True)
class Mark:
    """A value with its interval, and the paper's value as a hollow diamond on the same line."""

    value: float
    low: float | None
    high: float | None
    colour: int
    shape: str = "circle"
    paper: float | None = None
    text: str = ""  # at the right margin


@dataclass(frozen=True, slots=True)
class Row:
    """A label with the marks that belong to it, one under the other."""

    label: str
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class Line:
    """Points to join; `band` holds (x, low, high)."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: int
    band: Sequence[tuple[float, float, float]] = ()
    has_marks: bool = False
    peak: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes of a figure whose panels share x."""

    ylabel: str
    lines: Sequence[Line]


def forest(
    name: str,
    title: str,
    description: str,
    rows: Sequence[Row],
    *,
    xlabel: str,
    reference: float | None = None,
    scale: float = 1.0,
    width: float = NARROW,
    xlim: tuple[float, float] | None = None,
) -> str:
    """Return a figure with one line per mark, intervals as bars; `reference` is drawn as a dashed line.

    Values are multiplied by `scale` (100 for shares in percent); `xlim` is in the values' own unit.
    """
    names = [textwrap.fill(row.label, 18 if width <= NARROW else 42) for row in rows]
    spans = [PITCH * max(len(row.marks), 0.75 * name.count("\n") + 1) for row, name in zip(rows, names, strict=True)]
    bottom = 0.55 if xlabel else 0.33
    height = sum(spans) + len(rows) * GAP + bottom + 0.07

    def draw(figure: Figure) -> None:
        has_text = any(mark.text for row in rows for mark in row.marks)
        axes = _axes(figure, (width, height), bottom, names, has_text=has_text)
        axes.set_yticks(_rows(axes, rows, spans, scale), names)
        if reference is not None:
            axes.axvline(reference * scale, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        if xlim is not None:
            axes.set_xlim(xlim[0] * scale, xlim[1] * scale)
        axes.set_xlabel(xlabel)

    return _svg(name, title, description, (width, height), draw)


def lines(
    name: str,
    title: str,
    description: str,
    panels: Sequence[Panel],
    *,
    xlabel: str,
    width: float = NARROW,
) -> str:
    """Return a figure of panels one under the other over a common x axis."""
    top = 0.3 if panels[0].ylabel else 0.08
    height = 1.7 * len(panels) + 0.85 if len(panels) > 1 else 2.4 + top

    def draw(figure: Figure) -> None:
        figure.subplots_adjust(
            left=0.66 / width, right=1 - 0.12 / width, bottom=0.55 / height, top=1 - top / height, hspace=0.28
        )
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, panel in zip(grid, panels, strict=True):
            axes.grid(axis="y")
            axes.set_axisbelow(True)
            axes.tick_params(length=0)
            axes.spines["left"].set_visible(False)
            axes.set_title(panel.ylabel, loc="left", fontsize=12, color=MUTED, pad=6)
            axes.locator_params(axis="y", nbins=5)
            for line in panel.lines:
                _line(axes, line)
        grid[-1].set_xlabel(xlabel)

    return _svg(name, title, description, (width, height), draw)


def _axes(figure: Figure, size: tuple[float, float], bottom: float, names: Sequence[str], *, has_text: bool) -> Axes:
    width, height = size
    longest = max((len(line) for name in names for line in name.split("\n")), default=0)
    left, right = 0.25 + 0.092 * longest, 0.72 if has_text else 0.15
    figure.subplots_adjust(left=left / width, right=1 - right / width, bottom=bottom / height, top=1 - 0.05 / height)
    axes = figure.subplots()
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", labelcolor=INK, pad=8)
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=6 if width > NARROW else 5)
    return axes


def _rows(axes: Axes, rows: Sequence[Row], spans: Sequence[float], scale: float) -> list[float]:
    """Draw every row's marks in the middle of its span; return where the rows' labels stand, inches from the top."""
    top, middles = GAP / 2, list[float]()
    for row, span in zip(rows, spans, strict=True):
        middles.append(top + span / 2)
        for index, mark in enumerate(row.marks):
            _mark(axes, mark, middles[-1] + PITCH * (index - (len(row.marks) - 1) / 2), scale)
        top += span + GAP
    axes.set_ylim(top - GAP / 2, 0)
    return middles


def _mark(axes: Axes, mark: Mark, y: float, scale: float) -> None:
    low, high = (mark.value if end is None else end for end in (mark.low, mark.high))
    axes.plot([low * scale, high * scale], [y, y], color=colour(mark.colour), linewidth=2.6, zorder=2)
    if mark.paper is not None:
        axes.plot(
            mark.paper * scale,
            y,
            "D",
            markersize=7.5,
            markerfacecolor=CARD,
            markeredgecolor=MUTED,
            markeredgewidth=1.4,
            zorder=3,
        )
    size = 9.5 if mark.shape == "circle" else 8
    axes.plot(
        mark.value * scale,
        y,
        SHAPES[mark.shape],
        markersize=size,
        markerfacecolor=colour(mark.colour),
        markeredgecolor=CARD,
        markeredgewidth=1.5,
        zorder=4,
    )
    if mark.text:
        weight = "bold" if mark.shape == "circle" else "normal"
        axes.annotate(
            mark.text,
            (1, y),
            xycoords=("axes fraction", "data"),
            xytext=(10, 0),
            textcoords="offset points",
            va="center",
            ha="left",
            color=INK if mark.shape == "circle" else MUTED,
            fontweight=weight,
            annotation_clip=False,
        )


def _line(axes: Axes, line: Line) -> None:
    x, y = [point[0] for point in line.points], [point[1] for point in line.points]
    shade = colour(line.colour)
    if line.band:
        axes.fill_between(
            [b[0] for b in line.band],
            [b[1] for b in line.band],
            [b[2] for b in line.band],
            color=shade,
            alpha=0.15,
            linewidth=0,
        )
    is_noisy = len(y) > 40
    if is_noisy:
        axes.plot(x, y, color=shade, linewidth=1, alpha=0.3)
    smooth = _smoothed(y) if is_noisy else y
    axes.plot(x, smooth, color=shade, linewidth=2, marker="o" if line.has_marks or len(y) == 1 else None, markersize=5)
    if line.peak is not None:
        axes.axvline(line.peak[0], color=shade, linewidth=1, linestyle=(0, (3, 3)))
        axes.plot(*line.peak, "o", markersize=11, markerfacecolor="none", markeredgecolor=shade, markeredgewidth=1.6)


def _smoothed(values: Sequence[float]) -> list[float]:
    """Return the centred mean over a twentieth of the points to each side."""
    reach = max(1, len(values) // 20)
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def _svg(name: str, title: str, description: str, size: tuple[float, float], draw: Any) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    settings: Any = {**SETTINGS, "svg.hashsalt": name}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # the browser has glyphs that matplotlib's own font lacks; they are only measured here, not drawn
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=size)
        draw(figure)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    return inlined(written.getvalue(), name, title, description)


def inlined(svg: str, name: str, title: str, description: str) -> str:
    """Return matplotlib's SVG for use inside a page: its colours the page's, its ids its own, read aloud by title."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.S)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = re.sub(r"font: (?:(\w+) )?([\d.]+px) [^;\"]*", _font, svg)
    svg = re.sub(r' transform="rotate\(-0 [^)]*\)"', "", svg)
    svg = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    for stand_in, variable in VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    svg = re.sub(r"#0200(0\d)", lambda found: f"var(--c{int(found[1], 16)})", svg)
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups()  # pyright: ignore[reportOptionalMemberAccess]
    heading = (
        f'<svg class="plot" role="img" aria-labelledby="{name}-title {name}-desc" viewBox="0 0 {width} {height}" '
        f'style="max-width: {float(width) * (1.2 if float(width) < 400 else 1.35):.0f}px" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    )
    svg = re.sub(r"<svg[^>]*>", lambda _: heading, svg, count=1)
    return re.sub(r"\s*\n\s*", " ", svg).strip()


def _font(found: re.Match[str]) -> str:
    return f"font-size: {found[2]}" + (f"; font-weight: {found[1]}" if found[1] else "")
