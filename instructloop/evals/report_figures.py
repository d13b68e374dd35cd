"""Figures and sections of the report, made from estimates by policy; the page lays them out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from instructloop.evals import plots
from instructloop.evals.claims import LABELS, labels
from instructloop.evals.report_schema import Estimate, Judged, PaperFigure, Report
from instructloop.evals.report_tables import SHARE, Line, Table, Unit

MODES = {
    "qa": "QA prompt",
    "instruction_qa": "Instruction + QA prompt",
    "instruction": "Instruction alone",
    "basic": "No instruction",
    "respectful": "Asked to be respectful",
    "biased": "Asked to be rude",
    "true": "true",
    "true_and_informative": "true and informative",
    "open_qa": "Open QA",
    "closed_qa": "Closed QA",
}


SHAPES = ("circle", "square")


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of a legend: a shape, in the colour of a series or in that of the text."""

    shape: str
    label: str
    colour: int | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot with its title; `narrow` replaces it on a phone where the wide one could not be read."""

    title: str
    svg: str
    narrow: str = ""
    legend: Sequence[Key] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A headed part of the page: figures in a grid, then tables; folded ones wait behind a click."""

    id: str
    title: str
    lead: str
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    legend: Sequence[Key] = ()  # of all figures
    is_folded: bool = False


def title_of(key: str, titles: Mapping[str, str] = MODES) -> str:
    """Return the title of a key, or the key itself as words."""
    words = key.replace("_", " ").strip()
    return titles.get(key) or words[:1].upper() + words[1:]


def colours(names: Iterable[str]) -> dict[str, int]:
    """Return name -> colour: the known policies keep theirs in every report, others take the next free ones."""
    fixed = {name: index for index, name in enumerate(LABELS)}
    others = [name for name in names if name not in fixed]
    spare = plots.NUM_COLOURS - len(fixed)
    return {name: fixed[name] if name in fixed else len(fixed) + others.index(name) % spare for name in names}


def mark(
    figure: Estimate | Judged, colour: int, unit: Unit, *, shape: str = "circle", paper: PaperFigure | None = None
) -> plots.Mark:
    """Return a figure as a mark of a forest plot, with its value as text at the margin."""
    beside = None if paper is None else paper.value
    return plots.Mark(figure.value, figure.low, figure.high, colour, shape, beside, unit.full(figure.value))


def marks(report: Report, lines: Sequence[Line], name: str, hue: int) -> list[plots.Mark]:
    """Return one policy's marks, one per line that has it: circle, then square."""
    return [
        mark(line.figures[name], hue, line.unit, shape=shape, paper=report.paper.get(f"{line.path}.{name}"))
        for line, shape in zip(lines, SHAPES, strict=False)
        if name in line.figures
    ]


def limits(rows: Sequence[plots.Row], *, also: float | None = None) -> tuple[float, float]:
    """Return axis limits that hold every mark, interval and paper value, with a little room."""
    held = [x for row in rows for m in row.marks for x in (m.value, m.low, m.high, m.paper) if x is not None]
    held += [] if also is None else [also]
    low, high = min(held), max(held)
    room = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return low - room, high + room


def spoken(rows: Sequence[plots.Row], unit: Unit) -> str:
    """Return a plot's content as a sentence per row, for those who hear the page."""
    sentences: list[str] = []
    for row in rows:
        parts = [
            f"{unit.full(m.value)} (interval {unit.ends(m.low, m.high)})"
            + (f", paper {unit.full(m.paper)}" if m.paper is not None else "")
            for m in row.marks
        ]
        sentences.append(f"{row.label}: {'; '.join(parts)}.")
    return " ".join(sentences)


def multiples(
    report: Report, prefix: str, groups: Sequence[tuple[str, Sequence[Line]]], *, xlabel: str, shares_axis: bool = False
) -> list[Figure]:
    """Return one small plot per group: a row per policy, in it a mark per line of the group (circle, then square).

    `shares_axis` gives all of them the same limits.
    """
    names = labels(report)
    hues = colours(names)
    plotted: list[tuple[str, Unit, list[plots.Row]]] = []
    for title, lines in groups:
        rows: list[plots.Row] = []
        for name, label in names.items():
            drawn = marks(report, lines, name, hues[name])
            rows += [plots.Row(label, drawn)] if drawn else []
        plotted.append((title, lines[0].unit, rows))
    common = limits([row for *_, rows in plotted for row in rows]) if shares_axis and plotted else None
    return [
        Figure(
            title,
            plots.forest(
                f"{prefix}-{index}",
                title,
                spoken(rows, unit),
                rows,
                xlabel=xlabel,
                scale=unit.scale,
                xlim=common or limits(rows),
            ),
        )
        for index, (title, unit, rows) in enumerate(plotted)
    ]


def against_half(name: str, title: str, rows: Sequence[plots.Row], legend: Sequence[Key], *, xlabel: str) -> Figure:
    """Return a plot over the whole width, of shares against one half; on a phone a narrow one takes its place."""
    wide, narrow = (
        plots.forest(
            f"{name}-{size}",
            title,
            spoken(rows, SHARE),
            rows,
            xlabel=xlabel,
            reference=0.5,
            scale=SHARE.scale,
            width=width,
            xlim=limits(rows, also=0.5),
        )
        for size, width in (("wide", plots.WIDE), ("narrow", plots.NARROW))
    )
    return Figure(title, wide, narrow, legend)


def alone(lines: Sequence[Line]) -> list[tuple[str, Sequence[Line]]]:
    """Return lines as groups of one, for a plot each."""
    return [(line.label, [line]) for line in lines]


def paper_key(report: Report, lines: Sequence[Line]) -> list[Key]:
    """Return the legend's entry for the paper's figures when there is one among the lines."""
    is_there = any(f"{line.path}.{name}" in report.paper for line in lines for name in line.figures)
    return [Key("diamond", "the paper's figure")] if is_there else []
