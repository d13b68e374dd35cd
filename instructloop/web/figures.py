"""Where the marks of a plot stand: geometry for inline SVG, in numbers alone; colours are the style sheet's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from instructloop.core.rankings import Interval
from instructloop.web.pages import number

WIDTH, HEIGHT = 640.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 14.0, 14.0, 34.0
STRIP_WIDTH, STRIP_HEIGHT, STRIP_EDGE = 128.0, 18.0, 4.0

Tag = Literal["line", "circle", "rect", "text", "polyline"]


@dataclass(frozen=True, slots=True)
class Mark:
    """One SVG element: `kind` is its class, `text` what it writes or, of a shape, what it says when pointed at."""

    tag: Tag
    kind: str
    at: Mapping[str, float | str]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """Marks on a canvas; `summary` says in words what is to be seen, for who cannot look."""

    width: float
    height: float
    summary: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Scale:
    """A line from values to places on the canvas."""

    start: float
    end: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        """Return the place of a value, rounded to a tenth of a unit; values beyond the ends stay at the ends."""
        span = self.end - self.start or 1.0
        share = min(1.0, max(0.0, (value - self.start) / span))
        return round(self.first + share * (self.last - self.first), 1)


def nice_ticks(top: float, most: int = 5) -> list[float]:
    """Return round values from 0 to at least `top`, in steps of 1, 2 or 5 times a power of ten."""
    if top <= 0:
        return [0.0, 1.0]
    raw = top / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    return [round(step * i, 10) for i in range(math.ceil(top / step - 1e-9) + 1)]


def tick_text(value: float) -> str:
    """Return a number for an axis, without needless decimals."""
    return number(int(value)) if value == int(value) else f"{value:g}"


def percent(value: float) -> str:
    """Return a share as a whole percentage."""
    return f"{100 * value:.0f} %"


def strip(
    interval: Interval, *, bounds: tuple[float, float] = (0.0, 1.0), reference: float | None = None, name: str = ""
) -> Plot:
    """Return an estimate with its interval for a table's cell; the reference is chance or a cut-off."""
    x, middle = Scale(*bounds, STRIP_EDGE, STRIP_WIDTH - STRIP_EDGE), STRIP_HEIGHT / 2
    low, high = (
        end if math.isfinite(end) else bound for end, bound in zip((interval.low, interval.high), bounds, strict=True)
    )
    marks = [Mark("line", "rail", {"x1": x(bounds[0]), "x2": x(bounds[1]), "y1": middle, "y2": middle})]
    if reference is not None:
        marks.append(Mark("line", "reference", {"x1": x(reference), "x2": x(reference), "y1": 1, "y2": 17}))
    marks.append(Mark("line", "whisker", {"x1": x(low), "x2": x(high), "y1": middle, "y2": middle}))
    marks.append(Mark("circle", "dot", {"cx": x(interval.value), "cy": middle, "r": 4}))
    return Plot(STRIP_WIDTH, STRIP_HEIGHT, f"{name} {in_words(interval)}".strip(), tuple(marks))


def in_words(interval: Interval) -> str:
    """Return an estimate with its interval and sizes as one sentence's part."""
    return f"{interval.value:.2f}, 95 % interval {interval.low:.2f} to {interval.high:.2f}, n = {number(interval.n)}"


def gridlines(y: Scale, ticks: Sequence[tuple[float, str]]) -> list[Mark]:
    """Return horizontal lines with their labels."""
    return [
        mark
        for value, label in ticks
        for mark in (
            Mark("line", "grid", {"x1": LEFT, "x2": WIDTH - RIGHT, "y1": y(value), "y2": y(value)}),
            Mark("text", "tick end", {"x": LEFT - 8, "y": y(value) + 4}, label),
        )
    ]


def shown_labels(count: int, most: int = 8) -> set[int]:
    """Return which of `count` labels along an axis have room, the last among them."""
    step = max(1, math.ceil(count / most))
    return {i for i in range(count) if (count - 1 - i) % step == 0}


def over_time(
    points: Sequence[tuple[str, Interval]], *, summary: str, references: Mapping[str, float], axis: Sequence[float]
) -> Plot:
    """Return estimates with whiskers along time, joined by a line; `references` are named horizontal lines."""
    y = Scale(axis[0], axis[-1], HEIGHT - BOTTOM, TOP)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(points))
    xs = [round(LEFT + step * (i + 0.5), 1) for i in range(len(points))]
    marks = gridlines(y, [(value, percent(value)) for value in axis])
    for name, value in references.items():
        marks.append(Mark("line", "reference", {"x1": LEFT, "x2": WIDTH - RIGHT, "y1": y(value), "y2": y(value)}))
        marks.append(Mark("text", "label end", {"x": WIDTH - RIGHT, "y": y(value) - 5}, name))
    joined = " ".join(f"{x},{y(interval.value)}" for x, (_, interval) in zip(xs, points, strict=True))
    marks.append(Mark("polyline", "path", {"points": joined}))
    labelled = shown_labels(len(points))
    for i, (x, (label, interval)) in enumerate(zip(xs, points, strict=True)):
        marks.append(Mark("line", "whisker", {"x1": x, "x2": x, "y1": y(interval.low), "y2": y(interval.high)}))
        marks.append(
            Mark("circle", "dot", {"cx": x, "cy": y(interval.value), "r": 4}, f"{label}: {in_words(interval)}")
        )
        if i in labelled:
            marks.append(Mark("text", "tick middle", {"x": x, "y": HEIGHT - BOTTOM + 20}, label))
    return Plot(WIDTH, HEIGHT, summary, tuple(marks))


def columns(bars: Sequence[tuple[str, Mapping[str, int]]], *, series: Sequence[str], summary: str) -> Plot:
    """Return stacked columns, one a label; `series` names the parts from the bottom up, their class is `series-N`."""
    ticks = nice_ticks(max((sum(parts.values()) for _, parts in bars), default=0))
    y = Scale(0.0, ticks[-1], HEIGHT - BOTTOM, TOP)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(bars))
    marks = gridlines(y, [(tick, tick_text(tick)) for tick in ticks])
    labelled = shown_labels(len(bars))
    for i, (label, parts) in enumerate(bars):
        below, x, width = 0, LEFT + step * i + step * 0.14, min(step * 0.72, 48.0)
        x += (step * 0.72 - width) / 2
        for place, name in enumerate(series):
            if count := parts.get(name, 0):
                high, low = y(below + count), y(below)
                box = {"x": round(x, 1), "y": high, "width": round(width, 1), "height": round(low - high, 1)}
                marks.append(Mark("rect", f"series-{place}", box, f"{label}, {name}: {number(count)}"))
                below += count
        if i in labelled:
            marks.append(Mark("text", "tick middle", {"x": round(x + width / 2, 1), "y": HEIGHT - BOTTOM + 20}, label))
    return Plot(WIDTH, HEIGHT, summary, tuple(marks))


def scatter(
    points: Sequence[tuple[float, float, str]], *, summary: str, across: str, axis: Sequence[float], up: str
) -> Plot:
    """Return dots with a name each: `across` counts from 0, `up` is a share on `axis`."""
    ticks = nice_ticks(max((x for x, _, _ in points), default=0))
    x, y = Scale(0.0, ticks[-1], LEFT, WIDTH - RIGHT), Scale(axis[0], axis[-1], HEIGHT - BOTTOM, TOP + 14)
    marks = gridlines(y, [(value, percent(value)) for value in axis])
    marks.append(Mark("text", "label", {"x": LEFT, "y": TOP}, up))
    marks += [Mark("text", "tick middle", {"x": x(tick), "y": HEIGHT - BOTTOM + 16}, tick_text(tick)) for tick in ticks]
    marks.append(Mark("text", "label end", {"x": WIDTH - RIGHT, "y": HEIGHT - 4}, across))
    marks += [Mark("circle", "dot", {"cx": x(a), "cy": y(b), "r": 4}, name) for a, b, name in points]
    return Plot(WIDTH, HEIGHT, summary, tuple(marks))
