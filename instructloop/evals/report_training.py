"""How the report shows training: KL, over-optimisation, and the curves of every run."""

from __future__ import annotations

from instructloop.evals import plots
from instructloop.evals.claims import LABELS, labels, peak
from instructloop.evals.report_figures import Figure, Key, Section, alone, colours, multiples
from instructloop.evals.report_schema import Drift, Guard, Point, Report
from instructloop.evals.report_tables import POINTS, RATING, SHARE, Cell, Line, Table, TableRow, by_policy

MOST_POINTS = 240  # of a curve on the page: about one a pixel


GUARDED = (
    "During training a reward model that PPO does not learn from scored what the policy wrote for validation prompts: "
    "where its score falls while the one trained against rises, the policy exploits a mistake of the latter."
)


def label_of(report: Report, name: str) -> str:
    """Return the label of a policy or run."""
    return report.policies.get(name) or LABELS.get(name, name)


def completions(report: Report) -> Section | None:
    """What each policy writes for held-out prompts: the score it gets, how long it is, whether it ends."""
    found = (
        ("The reward model's score", report.reward_score, RATING),
        ("Ends by itself", report.finished, SHARE),
        ("Tokens per completion", report.completion_tokens, POINTS),
    )
    lines = [Line(title, figures, unit) for title, figures, unit in found if figures]
    if not lines:
        return None
    lead = (
        "One completion of every policy for each prompt of held-out users. The score is what PPO was trained to raise, "
        "0 at the mean of demonstrations: it says whether PPO did its work, not whether people like it. "
        "A completion that does not end by itself ran into the limit of its length."
    )
    figures = multiples(report, "score", alone(lines[:1]), xlabel="mean score") if report.reward_score else []
    tables = [by_policy("Completions for held-out prompts", lines, labels(report), report.paper)]
    return Section("completions", "What each policy writes", lead, figures, tables)


def drift(report: Report) -> Section | None:
    """KL over training, and proxy against gold over KL (Gao et al. 2022)."""
    figures: list[Figure] = []
    tables: list[Table] = []
    if report.kl:
        figures.append(_kl(report))
        rows = [
            TableRow(label_of(report, name), [Cell(f"{POINTS.write(kl.final)} nats")]) for name, kl in report.kl.items()
        ]
        tables.append(Table("KL to the reference at the end, per completion", ["Policy", "KL"], rows))
    if report.overoptimisation:
        figures.append(_overoptimisation(report))
        tables += [_checkpoints(report, name, points) for name, points in report.overoptimisation.items()]
    guards = report.guards or {}
    if guards:
        figures.append(_guarded(report))
        tables += [_checks(report, name, guard) for name, guard in guards.items()]
    if not figures:
        return None
    lead = (
        "How far each policy moved from the model it started from, and what that bought: the reward model's score "
        "(proxy) goes on rising, the judge's (gold) turns where the policy begins to exploit the model's mistakes."
        if report.overoptimisation
        else "How far each policy moved from the model it started from, in nats per completion."
    )
    warnings = [f"{label_of(report, name)}: {said}" for name, guard in guards.items() for said in guard.warnings]
    lead = " ".join([lead, *([GUARDED] if guards else []), *warnings])
    return Section("drift", "KL and over-optimisation", lead, figures, tables, is_folded=True)


def _kl(report: Report) -> Figure:
    curves = report.kl or {}
    hues = colours(curves)
    lines = [plots.Line(label_of(report, name), kl.curve, hues[name]) for name, kl in curves.items()]
    said = " ".join(f"{label_of(report, name)} ends at {kl.final:.2f} nats." for name, kl in curves.items())
    title = "KL to the reference during training"
    svg = plots.lines("kl", title, said, [plots.Panel("nats per completion", lines)], xlabel="iteration")
    return Figure(title, svg, legend=_keys(report, list(curves)))


def _overoptimisation(report: Report) -> Figure:
    runs = {
        name: sorted(points, key=lambda point: point.kl) for name, points in (report.overoptimisation or {}).items()
    }
    hues = colours(runs)
    proxy, gold, said = list[plots.Line](), list[plots.Line](), list[str]()
    for name, points in runs.items():
        label = label_of(report, name)
        proxy.append(plots.Line(label, [(point.kl, point.proxy) for point in points], hues[name], has_marks=True))
        judged = [(point.kl, point.gold) for point in points if point.gold is not None]
        if judged:
            best = max(judged, key=lambda point: point[1])
            gold.append(plots.Line(label, judged, hues[name], _band(points), has_marks=True, peak=best))
            said.append(f"{label}: gold is highest, {best[1]:.2f}, at {best[0]:.1f} nats.")
    panels = [plots.Panel("proxy: the reward model's score", proxy)]
    panels += [plots.Panel("gold: the judge's score, peak ringed", gold)] if gold else []
    title = "Proxy and gold score over KL"
    svg = plots.lines(
        "overoptimisation", title, " ".join(said), panels, xlabel="KL to the reference, nats per completion"
    )
    return Figure(title, svg, legend=_keys(report, list(runs)))


def _guarded(report: Report) -> Figure:
    """The score of the held-out reward model and of the one trained against, over KL, at every check of a guard."""
    hues = colours(report.guards or {})
    heldout, trained, said = list[plots.Line](), list[plots.Line](), list[str]()
    for name, guard in (report.guards or {}).items():
        label, checks = label_of(report, name), sorted(guard.checks, key=lambda check: check.kl)
        best = next(check for check in checks if check.iteration == guard.best_iteration)
        scores = [(check.kl, check.score) for check in checks]
        peak_at = (best.kl, best.score)
        heldout.append(plots.Line(label, scores, hues[name], has_marks=True, peak=peak_at))
        trained_on = [(check.kl, check.train_score) for check in checks]
        trained.append(plots.Line(label, trained_on, hues[name], has_marks=True))
        said.append(f"{label}: the held-out score is highest, {best.score:.2f}, at {best.kl:.1f} nats.")
    panels = [
        plots.Panel("held-out reward model, best ringed", heldout),
        plots.Panel("reward model trained against", trained),
    ]
    title = "Held-out and trained score over KL"
    svg = plots.lines("guards", title, " ".join(said), panels, xlabel="KL to the reference, nats per completion")
    return Figure(title, svg, legend=_keys(report, list(report.guards or {})))


def _checks(report: Report, name: str, guard: Guard) -> Table:
    rows = [
        TableRow(
            f"{check.iteration}" + (" (best)" if check.iteration == guard.best_iteration else ""),
            [
                Cell(POINTS.write(check.kl)),
                Cell(RATING.write(check.score)),
                Cell(RATING.write(check.train_score)),
                Cell(POINTS.write(check.length)),
                Cell(SHARE.write(check.repetition)),
                Cell(SHARE.write(check.eos_fraction)),
            ],
        )
        for check in guard.checks
    ]
    titles = ["Iteration", "KL, nats", "Held-out", "Trained", "Tokens", "Repeated 3-grams, %", "End by themselves, %"]
    return Table(f"{label_of(report, name)}: checks of the guard", titles, rows)


def _band(points: list[Drift]) -> list[tuple[float, float, float]]:
    return [(p.kl, p.gold_low, p.gold_high) for p in points if p.gold_low is not None and p.gold_high is not None]


def _checkpoints(report: Report, name: str, points: list[Drift]) -> Table:
    best = peak(points)
    rows = [
        TableRow(
            f"{point.iteration}" + (" (peak)" if point is best else ""),
            [
                Cell(POINTS.write(point.kl)),
                Cell(RATING.write(point.proxy)),
                None
                if point.gold is None
                else Cell(RATING.write(point.gold), RATING.ends(point.gold_low, point.gold_high)),
            ],
        )
        for point in points
    ]
    return Table(f"{label_of(report, name)}: checkpoints", ["Iteration", "KL, nats", "Proxy", "Gold"], rows)


def training(report: Report) -> Section | None:
    """Every curve, one small plot per metric with the runs that have it."""
    hues = colours(dict.fromkeys(run for runs in report.curves.values() for run in runs))
    figures: list[Figure] = []
    for index, metric in enumerate(report.curves):
        runs = {run: points for run, points in report.curves[metric].items() if points}
        if not runs:
            continue
        lines = [plots.Line(label_of(report, run), _thinned(points), hues[run]) for run, points in runs.items()]
        said = " ".join(f"{label_of(report, run)}: from {p[0][1]:.3g} to {p[-1][1]:.3g}." for run, p in runs.items())
        svg = plots.lines(f"curve-{index}", metric, said, [plots.Panel("", lines)], xlabel="step")
        keys = [Key("line", label_of(report, run), hues[run]) for run in runs]
        figures.append(Figure(metric, svg, legend=keys))
    lead = "What every run logged while it trained. The thin line is the metric, the bold one its moving mean."
    return Section("training", "Training curves", lead, figures) if figures else None


def _thinned(points: list[Point]) -> list[Point]:
    """Return at most `MOST_POINTS` points: means of equal stretches."""
    stretch = -(-len(points) // MOST_POINTS)
    chunks = [points[start : start + stretch] for start in range(0, len(points), stretch)]
    return [(chunk[len(chunk) // 2][0], sum(y for _, y in chunk) / len(chunk)) for chunk in chunks]


def _keys(report: Report, names: list[str]) -> list[Key]:
    hues = colours(names)
    return [Key("line", label_of(report, name), hues[name]) for name in names]
