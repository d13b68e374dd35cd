"""What people say in the report: preference, ratings and flags, use cases, reward model and agreement."""

from __future__ import annotations

from instructloop.evals import plots
from instructloop.evals.claims import labels
from instructloop.evals.report_figures import (
    SHAPES,
    Key,
    Section,
    against_half,
    alone,
    colours,
    mark,
    marks,
    multiples,
    paper_key,
    title_of,
)
from instructloop.evals.report_schema import Estimate, Report, RewardModel
from instructloop.evals.report_tables import RATING, SHARE, Line, Table, TableRow, by_policy, cell, upright

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

COHORTS = {"train": "Two training labelers", "heldout": "Two held-out labelers"}
PARTIES = (
    Key("circle", "Reward model", 4),
    Key("circle", "A rule that reads nothing", 0),
    Key("circle", "Labelers with each other", 2),
)


def preference(report: Report) -> Section | None:
    """Win rate against SFT, labelers and judge side by side, as the paper's Fig. 1."""
    people = "held-out simulated labelers" if report.simulated else "held-out labelers"
    found = [(people, report.win_rate_vs_sft, "win_rate_vs_sft"), ("the judge", report.gold_win_rate_vs_sft, "")]
    lines = [Line(f"By {who}", table, SHARE, path) for who, table, path in found if table]
    if not lines:
        return None
    names = {name: label for name, label in labels(report).items() if any(name in line.figures for line in lines)}
    hues = colours(names)
    rows = [plots.Row(label, marks(report, lines, name, hues[name])) for name, label in names.items()]
    legend = [Key(shape, line.label) for line, shape in zip(lines, SHAPES, strict=False)]
    if paper_key(report, lines):
        legend.append(Key("diamond", "The paper's 175B models (Fig. 3, held-out labelers)"))
    title, xlabel = "How often each policy is preferred to the SFT baseline", "preferred to the SFT baseline, %"
    figure = against_half("win-rate", title, rows, legend, xlabel=xlabel)
    if report.length_controlled_win_rate_vs_sft:
        lines.append(Line("At equal length", report.length_controlled_win_rate_vs_sft, SHARE))
    lead = (
        "Every completion was compared with the SFT baseline's for the same prompt. The prompts come from users that "
        "no model saw in training, the rankings from labelers whose judgements trained nothing. A tie counts one half."
    )
    tables = [upright("Win rate against the SFT baseline", lines, names, report.paper, hues)]
    return Section("preference", "Preference", lead, [figure], tables)


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
    pairs = _pairs(report)
    if not pairs:
        return None
    rows = [
        plots.Row(label, [mark(figure, hue, SHARE, paper=report.paper.get(path))]) for label, figure, path, hue in pairs
    ]
    legend = [key for key in PARTIES if any(key.colour == hue for *_, hue in pairs)]
    if any(path in report.paper for *_, path, _ in pairs):
        legend.append(Key("diamond", "the paper's figure"))
    figure = against_half("agreement", "Who agrees with whom", rows, legend, xlabel="pairs ordered alike, %")
    cells = [TableRow(label, [cell(one, SHARE, report.paper.get(path))]) for label, one, path, _ in pairs]
    lead = (
        "How often the reward model prefers what a labeler preferred, ties left out; one half is a coin. Labelers do "
        "not fully agree with each other either, and their agreement bounds what any model can reach."
    )
    table = Table("Accuracy and agreement", ["", "Pairs ordered alike"], cells)
    return Section("reward-model", "Reward model and labelers", lead, [figure], [table])


def _pairs(report: Report) -> list[tuple[str, Estimate, str, int]]:
    """Return who is compared with whom: label, figure, path of the paper's figure, colour."""
    model = report.reward_model or RewardModel()
    found: list[tuple[str, Estimate | None, str, int]] = [
        ("Reward model, labelers it was trained on", model.accuracy_seen_labelers, "accuracy_seen_labelers", 4),
        ("Reward model, labelers it never saw", model.accuracy_unseen_labelers, "accuracy_unseen_labelers", 4),
        ("Reward model, held-out rankings", model.accuracy_heldout, "accuracy_heldout", 4),
        ("Reward model, the judge's order", model.accuracy_gold, "accuracy_gold", 4),
        *((f"Reward model, {source}", figure, source, 4) for source, figure in model.by_source.items()),
        *((f"Rule: {rule}", figure, rule, 0) for rule, figure in model.baselines.items()),
    ]
    agreement = [
        (COHORTS.get(cohort, title_of(cohort)), figure, f"agreement.{cohort}", 2)
        for cohort, figure in (report.agreement or {}).items()
    ]
    return [(label, one, f"reward_model.{path}", hue) for label, one, path, hue in found if one] + agreement
