"""What people say in the report: preference, ratings and flags, use cases, reward model and agreement."""

from __future__ import annotations

from instructloop.evals import plots
from instructloop.evals.claims import labels
from instructloop.evals.report_figures import (
    Figure,
    Key,
    Section,
    alone,
    colours,
    limits,
    mark,
    multiples,
    paper_key,
    spoken,
    title_of,
)
from instructloop.evals.report_schema import Estimate, PaperFigure, Report
from instructloop.evals.report_tables import POINTS, RATING, SHARE, Line, Table, TableRow, by_policy, cell, upright

FLAG_TITLES = {
    "fails_instruction": "Fails to follow the instruction",
    "inappropriate_for_assistant": "Inappropriate for an assistant",
    "hallucination": "Hallucination",
    "satisfies_constraint": "Satisfies the stated constraint",
    "sexual_content": "Sexual content",
    "violent_content": "Violent content",
    "encourages_harm": "Encourages harm",
    "denigrates_protected_class": "Denigrates a protected class",
    "harmful_advice": "Harmful advice",
    "expresses_opinion": "Expresses an opinion",
    "moral_judgment": "Moral judgment",
}


def preference(report: Report) -> Section | None:
    """Win rate against SFT, labelers and judge side by side, as the paper's Fig. 1."""
    people = "held-out simulated labelers" if report.simulated else "held-out labelers"
    found = [(people, report.win_rate_vs_sft, "circle"), ("the judge", report.gold_win_rate_vs_sft, "square")]
    sources = [(who, table, shape) for who, table, shape in found if table]
    if not sources:
        return None
    names = {name: label for name, label in labels(report).items() if any(name in table for _, table, _ in sources)}
    hues = colours(names)
    rows = [
        plots.Row(
            label,
            [
                mark(table[n], hues[n], SHARE, shape=shape, paper=_beside(report, f"win_rate_vs_sft.{n}", index))
                for index, (_, table, shape) in enumerate(sources)
                if n in table
            ],
        )
        for n, label in names.items()
    ]
    title = "How often each policy is preferred to the SFT baseline"
    legend = [Key(shape, who[:1].upper() + who[1:]) for who, _, shape in sources]
    if any(m.paper is not None for row in rows for m in row.marks):
        legend.append(Key("diamond", "The paper's 175B models (Fig. 3, held-out labelers)"))
    wide, narrow = (
        plots.forest(
            f"win-rate-{size}",
            title,
            spoken(rows, SHARE),
            rows,
            xlabel="preferred to the SFT baseline, %",
            reference=0.5,
            scale=100,
            width=width,
            xlim=limits(rows, also=0.5),
        )
        for size, width in (("wide", plots.WIDE), ("narrow", plots.NARROW))
    )
    columns = [
        Line(f"By {who}", table, SHARE, "win_rate_vs_sft" if index == 0 else "")
        for index, (who, table, _) in enumerate(sources)
    ]
    if report.length_controlled_win_rate_vs_sft:
        columns.append(Line("At equal length", report.length_controlled_win_rate_vs_sft, SHARE))
    if report.completion_tokens:
        columns.append(Line("Tokens per completion", report.completion_tokens, POINTS))
    lead = (
        "Every completion was compared with the SFT baseline's for the same prompt. The prompts come from users that "
        "no model saw in training, the rankings from labelers whose judgements trained nothing. A tie counts one half."
    )
    tables = [upright("Win rate against the SFT baseline", columns, names, report.paper, hues)]
    return Section("preference", "Preference", lead, [Figure(title, wide, narrow, legend)], tables)


def _beside(report: Report, path: str, index: int) -> PaperFigure | None:
    return report.paper.get(path) if index == 0 else None


def ratings(report: Report) -> Section | None:
    """Likert ratings (Fig. 31) and flags (Fig. 4)."""
    lines = [Line("Overall quality, 1 to 7", report.likert, RATING, "likert")] if report.likert else []
    figures = multiples(report, "likert", alone(lines), xlabel="mean rating")
    found = report.flags or {}
    flags = [
        Line(title_of(flag, FLAG_TITLES), found[flag], SHARE, f"flags.{flag}")
        for flag in [*FLAG_TITLES, *(flag for flag in found if flag not in FLAG_TITLES)]
        if found.get(flag)
    ]
    drawn = [line for line in flags if max(figure.value for figure in line.figures.values()) >= 0.05]
    figures += multiples(report, "flag", alone(drawn), xlabel="of completions, %")
    if not lines and not flags:
        return None
    lead = (
        "Labelers rate each completion from 1 to 7 and answer yes or no to the questions of the paper's Table 3. "
        "Flags that were hardly ever set are in the table only."
    )
    tables = [by_policy("Ratings, and flags as shares of completions", [*lines, *flags], labels(report), report.paper)]
    return Section("ratings", "Ratings and flags", lead, figures, tables, paper_key(report, [*lines, *flags]))


def categories(report: Report) -> Section | None:
    """Win rate per use case: one can collapse unseen in the mean."""
    people = "held-out simulated labelers" if report.simulated else "held-out labelers"
    found = ((f"By {people}", report.win_rate_by_category), ("By the judge", report.gold_win_rate_by_category))
    tables = [
        by_policy(
            f"{who}, win rate against SFT",
            [Line(title_of(category), figures, SHARE) for category, figures in table.items()],
            {name: label for name, label in labels(report).items() if name != "sft"},
            report.paper,
            first="Use case",
        )
        for who, table in found
        if table
    ]
    if not tables:
        return None
    lead = "The same comparisons by use case: a mean can rise while one collapses. Few prompts make wide intervals."
    return Section("categories", "By use case", lead, tables=tables, is_folded=len(tables) > 1)


def reward_model(report: Report) -> Section | None:
    """Accuracy of the reward model, and how far labelers agree: its ceiling."""
    lines: list[tuple[str, Estimate | None, str]] = []
    if model := report.reward_model:
        lines += [
            ("Reward model, labelers it was trained on", model.accuracy_seen_labelers, "accuracy_seen_labelers"),
            ("Reward model, labelers it never saw", model.accuracy_unseen_labelers, "accuracy_unseen_labelers"),
            ("Reward model, held-out rankings", model.accuracy_heldout, ""),
            ("Reward model, the judge's order", model.accuracy_gold, ""),
            *((f"Reward model, {source}", figure, "") for source, figure in model.by_source.items()),
            *((f"Rule: {rule}", figure, "") for rule, figure in model.baselines.items()),
        ]
    cohorts = {"train": "Two training labelers", "heldout": "Two held-out labelers"}
    lines += [(cohorts.get(c, title_of(c)), figure, f"agreement.{c}") for c, figure in (report.agreement or {}).items()]
    paths = [(label, figure, f"reward_model.{p}" if p.startswith("acc") else p) for label, figure, p in lines if figure]
    if not paths:
        return None
    shade = {"Reward": 4, "Rule: ": 0}
    rows = [plots.Row(t, [mark(f, shade.get(t[:6], 2), SHARE, paper=report.paper.get(p))]) for t, f, p in paths if f]
    title = "Who agrees with whom"
    legend = [Key("circle", "Reward model", 4), Key("circle", "Labelers with each other", 2)]
    has_paper = any(row.marks[0].paper is not None for row in rows)
    legend = legend[: 1 + bool(report.agreement)] + ([Key("diamond", "paper")] if has_paper else [])
    wide, narrow = (
        plots.forest(
            f"agreement-{size}",
            title,
            spoken(rows, SHARE),
            rows,
            xlabel="pairs ordered alike, %",
            scale=100,
            width=width,
            reference=0.5,
            xlim=limits(rows, also=0.5),
        )
        for size, width in (("wide", plots.WIDE), ("narrow", plots.NARROW))
    )
    cells = [TableRow(t, [cell(f, SHARE, report.paper.get(p))]) for t, f, p in paths if f]
    lead = (
        "How often the reward model prefers what a labeler preferred, ties left out; one half is a coin. Labelers do "
        "not fully agree with each other either, and their agreement bounds what any model can reach."
    )
    table = Table("Accuracy and agreement", ["", "Pairs ordered alike"], cells)
    return Section("reward-model", "Reward model and labelers", lead, [Figure(title, wide, narrow, legend)], [table])
