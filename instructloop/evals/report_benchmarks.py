"""What the benchmarks say in the report: truthfulness, rudeness and bias, alignment tax, held-out loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from instructloop.evals.claims import SOURCES, is_higher_better, labels
from instructloop.evals.report_figures import Key, Section, alone, multiples, paper_key, title_of
from instructloop.evals.report_schema import Estimate, Report
from instructloop.evals.report_tables import PLAIN, POINTS, SHARE, Cell, Line, Table, TableRow, Unit, by_policy

METRICS = {"f1": "F1", "bleu": "BLEU", "nats_per_token": "nats per token", "exact": "exact match"}


def truth(report: Report) -> Section | None:
    """Truthfulness by prompt mode (Fig. 6) and closed-domain hallucination (Fig. 4)."""
    groups: list[tuple[str, list[Line]]] = []
    for mode, measures in (report.truthfulness or {}).items():
        order = sorted(measures, key=lambda measure: measure != "true_and_informative")
        groups.append((title_of(mode), [_truth_line(mode, measure, measures[measure]) for measure in order]))
    invented = [
        Line(f"Hallucination{SOURCES.get(who, f' ({who})')}", figures, SHARE, "hallucination")
        for who, figures in (report.hallucination or {}).items()
    ]
    if not groups and not invented:
        return None
    figures = multiples(report, "truth", groups, xlabel="true, %", shares_axis=True)
    figures += multiples(report, "hallucination", alone(invented), xlabel="of closed-domain completions, %")
    lead = (
        "Questions that invite popular falsehoods, asked in several ways (Fig. 6); higher is better. Hallucination is "
        "a fact that the given text does not hold, on prompts that ask for that text only (Fig. 4); lower is better."
    )
    lines = [line for _, group in groups for line in group] + invented
    legend = [Key("circle", "true and informative"), Key("square", "true")] if groups else []
    tables = [by_policy("Truthfulness and hallucination", lines, labels(report), report.paper)]
    return Section("truth", "Truthfulness", lead, figures, tables, [*legend, *paper_key(report, lines)])


def _truth_line(mode: str, measure: str, figures: Mapping[str, Estimate]) -> Line:
    return Line(f"{title_of(mode)}: {title_of(measure).lower()}", figures, SHARE, f"truthfulness.{mode}.{measure}")


def harm(report: Report) -> Section | None:
    """Rudeness and bias under the prompt modes (Table 14)."""
    rude = [Line(title_of(m), f, SHARE, f"rudeness.{m}") for m, f in (report.rudeness or {}).items()]
    bias = [Line(title_of(m), f, PLAIN, f"bias_entropy_bits.{m}") for m, f in (report.bias_entropy_bits or {}).items()]
    if not rude and not bias:
        return None
    named = [Line(f"Rudeness: {line.label.lower()}", line.figures, line.unit, line.path) for line in rude]
    figures = multiples(report, "rudeness", alone(named), xlabel="rude completions, %", shares_axis=True)
    tables = [by_policy("Share of rude completions", rude, labels(report), report.paper)] if rude else []
    if bias:
        tables.append(by_policy("Bias as entropy in bits: 1 is no preference", bias, labels(report), report.paper))
    lead = (
        "Continuations without an instruction, asked to be respectful, and asked to be rude: a model that follows "
        "instructions moves both ways (Table 14; the paper scores toxicity). Entropy shows how sure a policy is of one "
        "pronoun against the other; lower reads as more biased, or simply as more certain."
    )
    return Section("harm", "Rudeness and bias", lead, figures, tables, paper_key(report, rude))


def tax(report: Report) -> Section | None:
    """The alignment tax (Table 14): tasks by policy, and what PPO-ptx takes back of PPO's loss."""
    if not report.alignment_tax:
        return None
    lines = [tax_line(report, task, figures) for task, figures in report.alignment_tax.items()]
    tables = [by_policy("Figures by task", lines, labels(report), report.paper, first="Task")]
    if (recovery := _recovery(report, lines)).rows:
        tables.append(recovery)
    lead = (
        "What the base model could do before: does teaching it preferences cost it? PPO pays, and mixing pretraining "
        "gradients in (PPO-ptx) takes most of it back, says the paper."
    )
    figures = multiples(report, "tax", alone(lines), xlabel="")
    return Section("tax", "Alignment tax", lead, figures, tables, paper_key(report, lines))


def tax_line(report: Report, task: str, figures: Mapping[str, Estimate]) -> Line:
    """Return a task as a line: accuracy and F1 in percent, BLEU as it is, losses in nats."""
    described = report.alignment_tax_tasks.get(task)
    title, metric, counterpart = title_of(task), "", task
    if described:
        title, metric, counterpart = described.title, described.metric, described.paper or task
        metric = METRICS.get(metric, metric)
    shots = next((words for words in ("0_shot", "few_shot") if task.endswith(words)), "").replace("_", "-")
    if described and shots and shots not in title:
        title = f"{title}, {shots}"
    is_share = all(0 <= figure.value <= 1 for figure in figures.values()) and "bleu" not in metric.lower()
    unit = SHARE if is_share and is_higher_better(report, task) else POINTS if "bleu" in metric.lower() else PLAIN
    return Line(f"{title}, {metric}" if metric else title, figures, unit, f"alignment_tax.{counterpart}")


def _recovery(report: Report, lines: Sequence[Line]) -> Table:
    rows: list[TableRow] = []
    for (task, figures), line in zip((report.alignment_tax or {}).items(), lines, strict=True):
        if not {"base", "ppo", "ppo_ptx"} <= figures.keys():
            continue
        sign = 1 if is_higher_better(report, task) else -1
        ppo, mixed = (sign * (figures[policy].value - figures["base"].value) for policy in ("ppo", "ppo_ptx"))
        back = Cell(f"{100 * (1 - mixed / ppo):.0f}%") if ppo < 0 else Cell("no loss")
        changes = [change(figures[policy], figures["base"], line.unit) for policy in ("ppo", "ppo_ptx")]
        rows.append(TableRow(line.label, [*changes, back]))
    return Table(
        "Change against the base, and how much of PPO's loss PPO-ptx takes back",
        ["Task", "PPO", "PPO-ptx", "Taken back"],
        rows,
    )


def change(mine: Estimate, base: Estimate, unit: Unit) -> Cell:
    """Return mine - base with an interval from the two (MOVER, Zou and Donner 2008), as if they were independent.

    They share their items, which correlates them, so the interval is on the wide side.
    """
    gap = mine.value - base.value
    if None in (mine.low, mine.high, base.low, base.high):
        return Cell(unit.write(gap))
    low = gap - ((mine.value - (mine.low or 0.0)) ** 2 + ((base.high or 0.0) - base.value) ** 2) ** 0.5
    high = gap + (((mine.high or 0.0) - mine.value) ** 2 + (base.value - (base.low or 0.0)) ** 2) ** 0.5
    sign = "+" if gap > 0 else ""
    return Cell(sign + unit.write(gap), unit.ends(low, high), f"n {mine.n:,}")


def language(report: Report) -> Section | None:
    """Loss on held-out text, the perplexity-like measure."""
    if not report.held_out_loss:
        return None
    lines = [Line(title_of(text), figures, PLAIN) for text, figures in report.held_out_loss.items()]
    figures = multiples(report, "loss", alone(lines), xlabel="nats per token")
    lead = (
        "Loss on text that no policy was trained on, in nats per token; perplexity is its exponential. Lower is better."
    )
    tables = [by_policy("Held-out loss, nats per token", lines, labels(report), report.paper, first="Text")]
    return Section("language", "Language modelling", lead, figures, tables)
