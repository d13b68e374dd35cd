"""The report of a round: one self-contained HTML page, and a table for the terminal, both from report.json alone."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instructloop.evals.claims import claims, headline, labels, percent, tax_loss
from instructloop.evals.report_schema import Estimate, Judged, Lineage, LineageRun, Report, checked
from instructloop.evals.report_tables import PLAIN, POINTS, RATING, SHARE, Unit, cell
from instructloop.files import write_atomic

if TYPE_CHECKING:
    from rich.table import Table as TerminalTable

    from instructloop.evals.report_figures import Section

TEMPLATES = Path(__file__).parent / "templates"
# Control characters, lone surrogates, and marks that turn the direction of text around: shown by number, never obeyed.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def build(report: Mapping[str, Any], html_path: Path) -> None:
    """Write the page of a report; ValueError names a field that is wrong, before anything is written."""
    write_atomic(html_path, render(report))


def render(report: Mapping[str, Any]) -> str:
    """Return the page as HTML; the same report gives the same bytes."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    data = checked(report)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    verdict, basis = headline(data)
    return environment.get_template("report.html").render(
        report=data,
        verdict=verdict,
        basis=basis,
        tiles=tiles(data),
        claims=claims(data),
        sections=[_marked(section) for section in sections(data)],
        names=labels(data),
        hues=_hues(data),
        categories=sorted({sample.category for sample in data.samples if sample.category}),
        trees=trees(data.lineage) if data.lineage else {},
        config={step: json.dumps(fields, indent=2, ensure_ascii=False) for step, fields in data.config.items()},
        longest_step=max((step.seconds for step in data.steps), default=0.0),
        counted=counted(data),
        duration=duration,
        signed=RATING.write,
        people="simulated labelers" if data.simulated else "labelers",
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def sections(report: Report) -> list[Section]:
    """Return every section that the report has figures for, in reading order."""
    from instructloop.evals import report_benchmarks, report_people, report_training

    made = (
        report_people.preference(report),
        report_people.ratings(report),
        report_people.categories(report),
        report_people.reward_model(report),
        report_benchmarks.truth(report),
        report_benchmarks.harm(report),
        report_benchmarks.tax(report),
        report_benchmarks.language(report),
        report_training.completions(report),
        report_training.drift(report),
        report_training.training(report),
    )
    return [section for section in made if section is not None]


def _marked(section: Section) -> Section:
    """Return the section with its plots trusted as markup; everything else is escaped by the template."""
    from markupsafe import Markup

    figures = [replace(figure, svg=Markup(figure.svg), narrow=Markup(figure.narrow)) for figure in section.figures]
    return replace(section, figures=figures)


def _hues(report: Report) -> dict[str, int]:
    from instructloop.evals.report_figures import colours

    return colours(labels(report))


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure at the top of the page."""

    label: str
    value: str
    ends: str = ""
    paper: str = ""


def tiles(report: Report) -> list[Tile]:
    """Return up to four figures that a reader looks for first."""
    best = "ppo_ptx" if "ppo_ptx" in labels(report) else None
    model = report.reward_model
    found: list[tuple[str, Estimate | Judged | None, str]] = [
        ("preferred to SFT, labelers", (report.win_rate_vs_sft or {}).get(best or ""), f"win_rate_vs_sft.{best}"),
        ("preferred to SFT, judge", (report.gold_win_rate_vs_sft or {}).get(best or ""), ""),
    ]
    if model:
        found.append(
            ("reward model, unseen labelers", model.accuracy_unseen_labelers, "reward_model.accuracy_unseen_labelers")
        )
        if model.accuracy_unseen_labelers is None:
            found.append(("reward model, held-out rankings", model.accuracy_heldout, ""))
    made: list[Tile] = []
    for label, figure, path in found:
        if figure is not None:
            written = cell(figure, SHARE, report.paper.get(path))
            made.append(Tile(label, written.value, written.ends, written.paper))
    if report.kl and best in report.kl:
        made.append(
            Tile("KL to the reference", f"{POINTS.write(report.kl[best].final)} nats", "per completion, at the end")
        )
    made.append(Tile("time for the whole loop", duration(report.wall_seconds), f"seed {report.seed}"))
    return made[:5]


def counted(report: Report) -> dict[str, list[tuple[str, int]]]:
    """Return what went in by step: "step: what" is counted under its step, the rest under no name."""
    found: dict[str, list[tuple[str, int]]] = {}
    for name, number in report.counts.items():
        step, colon, what = name.partition(": ")
        found.setdefault(step if colon else "", []).append((what if colon else name, number))
    return found


def duration(seconds: float) -> str:
    """Return seconds as "7 min 03 s", "2 h 05 min" or "4.2 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def visible(text: str) -> str:
    """Return text in which a character that shows nothing, or turns the text around, stands as its number."""
    return UNSEEN.sub(lambda found: f"\u27e8U+{ord(found[0]):04X}\u27e9", text.replace("\r\n", "\n"))


@dataclass(frozen=True, slots=True)
class Node:
    """A run in the tree of ancestors; a run that stands further up already is a repeat without children."""

    role: str
    id: str
    run: LineageRun
    children: Sequence[Node]
    is_repeat: bool


def trees(lineage: Lineage) -> dict[str, Node]:
    """Return name -> tree of every published policy; each run is spelt out where it is first met."""
    seen = set[str]()

    def node(role: str, identity: str) -> Node:
        run, is_repeat = lineage.runs[identity], identity in seen
        seen.add(identity)
        children = [] if is_repeat else [node(name, parent) for name, parent in run.parents.items()]
        return Node(role, identity, run, children, is_repeat)

    return {name: node("", identity) for name, identity in lineage.roots.items()}


def summary_table(report: Mapping[str, Any]) -> TerminalTable:
    """Return the table that a round ends with in the terminal: a row per policy, below it what concerns them all."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    data = checked(report)
    verdict, _ = headline(data)
    table = Table(
        title=Text(f"{verdict} (simulated labelers)" if data.simulated else verdict, style="bold"),
        caption=Text("\n".join(_remarks(data))),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 0, 0, 1),
    )
    columns = _columns(data)
    table.add_column("policy")
    for heading in columns:
        table.add_column(heading, justify="right")
    for name, label in labels(data).items():
        cells = [figures.get(name, "") for figures in columns.values()]
        if any(cells):
            table.add_row(Text(visible(label)), *cells)
    return table


def _columns(report: Report) -> dict[str, dict[str, str]]:
    """Return heading -> policy -> text of the terminal's table, empty columns left out."""
    modes, rude = report.truthfulness or {}, report.rudeness or {}
    informative = modes.get("qa", next(iter(modes.values()), {})).get("true_and_informative", {})
    found: list[tuple[str, Mapping[str, Estimate | Judged] | None, Unit]] = [
        ("wins vs\nSFT", report.win_rate_vs_sft, SHARE),
        ("judge", report.gold_win_rate_vs_sft, SHARE),
        ("rating", report.likert, RATING),
        ("reward", None if report.win_rate_vs_sft else report.reward_score, RATING),
        ("true and\ninform.", informative, SHARE),
        ("halluci-\nnation", (report.flags or {}).get("hallucination"), SHARE),
        ("rude", rude.get("respectful"), SHARE),
    ]
    for text, figures in (report.held_out_loss or {}).items():
        found.append((f"loss on\n{text}", figures, PLAIN))
    columns = {heading: {n: _brief(f, unit) for n, f in figures.items()} for heading, figures, unit in found if figures}
    if report.alignment_tax:
        tasks = [task for task, figures in report.alignment_tax.items() if "base" in figures]
        shared = {n for n in labels(report) if all(n in report.alignment_tax[task] for task in tasks)} - {"base"}
        columns["tasks vs\nbase"] = {n: f"{-100 * tax_loss(report, n, tasks):+.1f}%" for n in shared} if tasks else {}
    if report.kl:
        columns["KL"] = {name: POINTS.write(kl.final) for name, kl in report.kl.items()}
    return columns


def _brief(figure: Estimate | Judged, unit: Unit) -> str:
    whole = replace(unit, digits=max(0, unit.digits - 1))
    if figure.low == figure.value == figure.high:
        return unit.full(figure.value)
    return f"{unit.full(figure.value)}\n{whole.ends(figure.low, figure.high)}"


def _remarks(report: Report) -> list[str]:
    remarks: list[str] = []
    if model := report.reward_model:
        named = (
            ("labelers it was trained on", model.accuracy_seen_labelers),
            ("labelers it never saw", model.accuracy_unseen_labelers),
            ("held-out rankings", model.accuracy_heldout),
        )
        agrees = [f"{percent(figure)} with {who}" for who, figure in named if figure is not None]
        remarks += [f"reward model agrees {', '.join(agrees)}"] if agrees else []
    if report.agreement:
        among = [f"{percent(figure)} {cohort}" for cohort, figure in report.agreement.items()]
        remarks.append(f"labelers agree with each other {', '.join(among)}")
    explained = {
        "rude: share of completions when asked to be respectful": (report.rudeness or {}).get("respectful"),
        "tasks vs base: mean relative change on the tasks of the alignment tax": report.alignment_tax,
    }
    remarks += [text for text, shown in explained.items() if shown]
    verdicts = [claim.verdict for claim in claims(report)]
    if verdicts:
        holds, stays, fails = (verdicts.count(verdict) for verdict in ("holds", "open", "fails"))
        remarks.append(f"of the paper's claims {holds} hold, {stays} stay open, {fails} fail")
    return [*remarks, f"seed {report.seed}, {duration(report.wall_seconds)}"]
