"""Tables of the report: each cell a figure with its interval, its n and the paper's beside it; text, no markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from instructloop.evals.report_schema import Estimate, Judged, PaperFigure

EN_DASH, MINUS = "\u2013", "\u2212"


@dataclass(frozen=True, slots=True)
class Unit:
    """How a figure is written: times `scale`, with `digits` decimals and a suffix."""

    scale: float = 1.0
    digits: int = 2
    suffix: str = ""

    def write(self, value: float) -> str:
        """Return the value as text, with a true minus sign."""
        text = f"{self.scale * value:.{self.digits}f}".replace("-", MINUS)
        return text.removeprefix(MINUS) if not text.strip(f"{MINUS}0.") else text

    def full(self, value: float) -> str:
        """Return the value with its suffix."""
        return self.write(value) + self.suffix

    def ends(self, low: float | None, high: float | None) -> str:
        """Return the interval; an end the data do not bound is an ellipsis."""
        texts = ["…" if end is None else self.write(end) for end in (low, high)]
        joint = " to " if any(text.startswith(MINUS) for text in texts) else EN_DASH
        return joint.join(texts)


SHARE = Unit(100.0, 1, "%")
RATING = Unit(1.0, 2)
PLAIN = Unit(1.0, 3)
POINTS = Unit(1.0, 1)


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure as text; `paper` and `source` are empty where the paper has none."""

    value: str
    ends: str = ""
    sample: str = ""
    paper: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row head with its cells; None is an empty cell."""

    label: str
    cells: Sequence[Cell | None]
    colour: int | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column is a row head."""

    caption: str
    head: Sequence[str]
    rows: Sequence[TableRow]


@dataclass(frozen=True, slots=True)
class Line:
    """One row before it is written: its label, its figures by policy, its unit, and where the paper's stand."""

    label: str
    figures: Mapping[str, Estimate | Judged]
    unit: Unit
    path: str = ""


def cell(figure: Estimate | Judged, unit: Unit, paper: PaperFigure | None = None) -> Cell:
    """Return a figure as a cell."""
    if isinstance(figure, Judged):
        sample = f"n {figure.n_judgements:,} · {figure.n_prompts:,} prompts"
    else:
        grouped = figure.n_clusters is not None and figure.n_clusters != figure.n
        sample = f"n {figure.n:,}" + (f" · {figure.n_clusters:,} groups" if grouped else "")
    is_exact = figure.low == figure.value == figure.high
    ends = "by definition" if is_exact else unit.ends(figure.low, figure.high)
    return Cell(unit.full(figure.value), ends, sample, written(paper, unit), paper.source if paper else "")


def written(paper: PaperFigure | None, unit: Unit) -> str:
    """Return the paper's figure with its printed interval, or nothing."""
    if paper is None:
        return ""
    ends = "" if paper.low is None and paper.high is None else f" ({unit.ends(paper.low, paper.high)})"
    return unit.full(paper.value) + ends


def by_policy(
    caption: str, lines: Sequence[Line], names: Mapping[str, str], paper: Mapping[str, PaperFigure], *, first: str = ""
) -> Table:
    """Return a table with one column per policy that has a figure in any line, in the order of `names`."""
    columns = [name for name in names if any(name in line.figures for line in lines)]
    rows = [
        TableRow(
            line.label,
            [
                cell(line.figures[name], line.unit, paper.get(f"{line.path}.{name}")) if name in line.figures else None
                for name in columns
            ],
        )
        for line in lines
    ]
    return Table(caption, [first, *(names[name] for name in columns)], rows)


def upright(
    caption: str,
    columns: Sequence[Line],
    names: Mapping[str, str],
    paper: Mapping[str, PaperFigure],
    colours: Mapping[str, int],
) -> Table:
    """Return a table with one row per policy and one column per line: narrow, for a few measures."""
    rows = [
        TableRow(
            label,
            [
                cell(line.figures[name], line.unit, paper.get(f"{line.path}.{name}")) if name in line.figures else None
                for line in columns
            ],
            colours[name],
        )
        for name, label in names.items()
        if any(name in line.figures for line in columns)
    ]
    return Table(caption, ["Policy", *(line.label for line in columns)], rows)
