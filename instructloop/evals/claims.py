"""The paper's claims held against a report's figures: each holds, fails, or is left open by the intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from instructloop.evals.report_schema import Bounds, Drift, Judged, Report

Verdict = Literal["holds", "open", "fails"]
EN_DASH = "\u2013"
SOURCES = {"labelers": ", say labelers", "judge": ", says the judge", "benchmark": " on the benchmark"}
LABELS = {
    "base": "Base",
    "base_prompted": "Base, prompted",
    "sft": "SFT",
    "ppo": "PPO",
    "ppo_ptx": "PPO-ptx",
}


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of the paper, whether it came out here, and the figures that say so."""

    text: str
    verdict: Verdict
    finding: str
    paper: str


def labels(report: Report) -> dict[str, str]:
    """Return name -> label of every policy with a figure or a sample, in the order of the report's columns."""
    measured = dict.fromkeys(
        name
        for table in (report.win_rate_vs_sft, report.gold_win_rate_vs_sft, report.likert, *_by_policy(report))
        for name in table or {}
    )
    sampled = dict.fromkeys(completion.policy for sample in report.samples for completion in sample.completions)
    known = [name for name in LABELS if name in measured or name in sampled]
    order = dict.fromkeys([*report.policies, *known, *measured, *sampled])
    return {name: report.policies.get(name) or LABELS.get(name, name) for name in order}


def _by_policy(report: Report) -> Iterator[Mapping[str, Bounds]]:
    for tables in (report.alignment_tax, report.rudeness, report.bias_entropy_bits, report.held_out_loss):
        yield from (tables or {}).values()


def claims(report: Report) -> list[Claim]:
    """Return every claim that the report has the figures for, in the paper's order."""
    return [
        *_preferences(report),
        *_labelers(report),
        *_truth_and_harm(report),
        *_tax(report),
        *_overoptimisation(report),
    ]


def headline(report: Report) -> tuple[str, str]:
    """Return the verdict in one sentence, and the figures behind it in another."""
    rates = {name: rate for name, rate in (report.win_rate_vs_sft or {}).items() if name not in ("base", "sft")}
    if rates:
        best = "ppo_ptx" if "ppo_ptx" in rates else max(rates, key=lambda name: rates[name].value)
        return _preferred(report, best, rates[best])
    accuracy = report.reward_model.accuracy_heldout if report.reward_model else None
    if accuracy is not None:
        beats = (
            "agrees with people more often than a coin" if _low(accuracy) > 0.5 else "is not clearly better than a coin"
        )
        return (
            f"The reward model {beats}: {100 * accuracy.value:.0f}% of held-out pairs",
            f"95% interval {_interval(accuracy)}, {accuracy.sample}. No head-to-head comparison was made in this run.",
        )
    return report.title, "This run measured no preference."


def _preferred(report: Report, best: str, rate: Judged) -> tuple[str, str]:
    label = report.policies.get(best) or LABELS.get(best, best)
    share = f"{100 * rate.value:.0f}%"
    if _low(rate) > 0.5:
        verdict = f"{label} is preferred to the SFT baseline in {share} of comparisons"
    elif _high(rate) < 0.5:
        verdict = f"{label} loses to the SFT baseline: preferred in only {share} of comparisons"
    else:
        verdict = f"No clear preference between {label} and the SFT baseline: {share} of comparisons"
    people = "simulated labelers" if report.simulated else "labelers"
    basis = f"By held-out {people}: 95% interval {_interval(rate)}, {rate.sample}."
    gold = (report.gold_win_rate_vs_sft or {}).get(best)
    if gold is not None:
        agrees = (gold.value > 0.5) == (rate.value > 0.5)
        basis += f" The judge {'agrees' if agrees else 'disagrees'}: {100 * gold.value:.0f}% ({_interval(gold)})."
    return verdict, basis


def _interval(figure: Bounds) -> str:
    return EN_DASH.join("…" if end is None else f"{100 * end:.0f}" for end in (figure.low, figure.high)) + "%"


def above(one: Bounds, other: Bounds) -> Verdict:
    """Say whether `one` is above `other`: "holds" when the intervals do not meet, "open" when they do."""
    if one.value <= other.value:
        return "fails" if _high(one) < _low(other) else "open"
    return "holds" if _low(one) > _high(other) else "open"


def percent(figure: Bounds | float) -> str:
    """Return "62.8%", with the interval when there is one."""
    if isinstance(figure, Bounds):
        return f"{100 * figure.value:.1f}% ({_interval(figure)})"
    return f"{100 * figure:.1f}%"


def _low(figure: Bounds) -> float:
    return float("-inf") if figure.low is None else figure.low


def _high(figure: Bounds) -> float:
    return float("inf") if figure.high is None else figure.high


def _preferences(report: Report) -> Iterator[Claim]:
    rates, gold = report.win_rate_vs_sft or {}, report.gold_win_rate_vs_sft or {}
    ladder = [name for name in ("base", "base_prompted", "sft", "ppo_ptx") if name in rates]
    if len(ladder) > 2:
        steps = [above(rates[better], rates[worse]) for worse, better in pairwise(ladder)]
        falls = any(rates[better].value <= rates[worse].value for worse, better in pairwise(ladder))
        verdict = "fails" if falls else "holds" if set(steps) == {"holds"} else "open"
        finding = ", ".join(f"{LABELS[name]} {percent(rates[name].value)}" for name in ladder)
        yield Claim(" < ".join(LABELS[name] for name in ladder) + " in win rate", verdict, finding, "§4.1, Fig. 1")
    half = Bounds(value=0.5, low=0.5, high=0.5)
    for judge, table in (("held-out labelers", rates), ("the judge", gold)):
        if "ppo_ptx" in table:
            text = f"PPO-ptx is preferred to SFT by {judge}"
            yield Claim(text, above(table["ppo_ptx"], half), percent(table["ppo_ptx"]), "§4.1, Fig. 1 and 3")
    if "ppo" in rates and "ppo_ptx" in rates:
        apart = "open" not in (above(rates["ppo"], rates["ppo_ptx"]), above(rates["ppo_ptx"], rates["ppo"]))
        finding = f"PPO {percent(rates['ppo'])}, PPO-ptx {percent(rates['ppo_ptx'])}"
        yield Claim("The pretraining mix hardly changes preference", "fails" if apart else "holds", finding, "§4.1")


def _labelers(report: Report) -> Iterator[Claim]:
    accuracy = report.reward_model
    if accuracy and accuracy.accuracy_seen_labelers and accuracy.accuracy_unseen_labelers:
        seen, unseen = accuracy.accuracy_seen_labelers, accuracy.accuracy_unseen_labelers
        verdict: Verdict = "holds" if seen.value - unseen.value <= 0.05 else "fails"
        finding = f"seen {percent(seen)}, unseen {percent(unseen)}"
        yield Claim("The reward model generalises to labelers it never saw, within 5 points", verdict, finding, "§4.1")
    if not report.simulated:
        return  # agreement of real people is what it is; only simulated ones are calibrated to the paper's
    for cohort, name in (("train", "Training"), ("heldout", "Held-out")):
        ours, theirs = (report.agreement or {}).get(cohort), report.paper.get(f"agreement.{cohort}")
        if ours and theirs and theirs.low is not None and theirs.high is not None:
            inside = theirs.low <= ours.value <= theirs.high
            text = f"{name} labelers agree with each other as the paper's did"
            finding = f"{percent(ours)}, band {100 * theirs.low:.1f} to {100 * theirs.high:.1f}%"
            yield Claim(text, "holds" if inside else "fails", finding, theirs.source)


def _truth_and_harm(report: Report) -> Iterator[Claim]:
    def compare(text: str, more: Bounds | None, less: Bounds | None, names: tuple[str, str], paper: str):
        if more and less:
            yield Claim(text, above(more, less), f"{names[0]} {percent(more)}, {names[1]} {percent(less)}", paper)

    measures = (report.truthfulness or {}).get("qa", {})
    table = measures.get("true_and_informative", {})
    text = "PPO-ptx is true and informative more often than the base"
    yield from compare(text, table.get("ppo_ptx"), table.get("base"), ("PPO-ptx", "base"), "§4.2, Fig. 6")
    flagged = (report.flags or {}).get("hallucination")
    for who, table in {**({"labelers": flagged} if flagged else {}), **(report.hallucination or {})}.items():
        text = f"PPO-ptx hallucinates less than the base{SOURCES.get(who, f' ({who})')}"
        yield from compare(text, table.get("base"), table.get("ppo_ptx"), ("base", "PPO-ptx"), "§4.1, Fig. 4")
    respectful, biased = ((report.rudeness or {}).get(mode, {}) for mode in ("respectful", "biased"))
    text = "Asked to be respectful, PPO-ptx is less rude than the base"
    yield from compare(text, respectful.get("base"), respectful.get("ppo_ptx"), ("base", "PPO-ptx"), "§4.2, Fig. 7")
    text = "Asked to be rude, PPO-ptx is ruder than the base"
    yield from compare(text, biased.get("ppo_ptx"), biased.get("base"), ("PPO-ptx", "base"), "§4.2, Table 14")


def tax_loss(report: Report, policy: str, tasks: list[str]) -> float:
    """Return the mean over `tasks` of what `policy` lost against the base, as a share of the base's figure."""
    losses: list[float] = []
    for task in tasks:
        figures = (report.alignment_tax or {})[task]
        base, mine = figures["base"].value, figures[policy].value
        gain = mine - base if is_higher_better(report, task) else base - mine
        losses.append(-gain / abs(base) if base else 0.0)
    return sum(losses) / len(losses)


def is_higher_better(report: Report, task: str) -> bool:
    """Return the direction of a task; losses are the ones described as lower-better."""
    described = report.alignment_tax_tasks.get(task)
    return described is None or described.is_higher_better


def _tax(report: Report) -> Iterator[Claim]:
    """Yield the claims on the alignment tax, for the policies and for those on a long leash, where there are any."""
    for ppo, mixed, where in (("ppo", "ppo_ptx", ""), ("ppo_loose", "ppo_ptx_loose", ", on a long leash")):
        yield from _tax_of(report, ppo, mixed, where)
        yield from _text_tax_of(report, ppo, mixed, where)


def _tax_of(report: Report, ppo: str, mixed: str, where: str) -> Iterator[Claim]:
    wanted = {"base", ppo, mixed}
    tax = {task: figures for task, figures in (report.alignment_tax or {}).items() if wanted <= figures.keys()}
    if not tax:
        return
    loss, loss_of_mixed = (tax_loss(report, policy, list(tax)) for policy in (ppo, mixed))
    changes = f"PPO {-100 * loss:+.1f}%, PPO-ptx {-100 * loss_of_mixed:+.1f}%"
    finding = f"mean of {len(tax)} tasks against the base: " + changes.replace(" -", " \u2212")
    lost: list[str] = []
    for task, figures in tax.items():
        ends = (figures["base"], figures[ppo]) if is_higher_better(report, task) else (figures[ppo], figures["base"])
        if above(*ends) == "holds":
            lost.append(report.alignment_tax_tasks[task].title if task in report.alignment_tax_tasks else task)
    text = f"PPO without the pretraining mix loses what the base could do{where}"
    clear = f"clear on {', '.join(lost)}" if lost else finding
    yield Claim(text, "holds" if lost else "open", clear, "§4.2, Table 14")
    if loss > 0:
        half = "holds" if loss_of_mixed <= loss / 2 else "fails"
        yield Claim(f"PPO-ptx takes back at least half of the loss{where}", half, finding, "§4.2, Table 14")


def _text_tax_of(report: Report, ppo: str, mixed: str, where: str) -> Iterator[Claim]:
    """Yield the same for the loss on held-out text: tasks that a base does perfectly show a tax late, text at once."""
    for text, loss in (report.held_out_loss or {}).items():
        if not {"base", ppo, mixed} <= loss.keys():
            continue
        risen, risen_of_mixed = (loss[policy].value - loss["base"].value for policy in (ppo, mixed))
        if risen > 0:
            half = "holds" if risen_of_mixed <= risen / 2 else "fails"
            finding = f"above the base: PPO {risen:+.3f}, PPO-ptx {risen_of_mixed:+.3f} nats a token".replace(
                "-0", "\u22120"
            )
            claim = f"PPO-ptx takes back at least half of the rise in loss on held-out text ({text}){where}"
            yield Claim(claim, half, finding, "§4.2, §3.5")


def peak(checkpoints: list[Drift]) -> Drift | None:
    """Return the checkpoint with the highest gold score; None where the judge saw none."""
    judged = [point for point in checkpoints if point.gold is not None]
    return max(judged, key=lambda point: point.gold or 0.0, default=None)


def _overoptimisation(report: Report) -> Iterator[Claim]:
    for policy, checkpoints in (report.overoptimisation or {}).items():
        best = peak(checkpoints)
        if best is None or best.gold is None:
            continue
        last = max((point for point in checkpoints if point.gold is not None), key=lambda point: point.kl)
        fell = last.gold is not None and last.proxy > best.proxy and last.gold < best.gold
        clearly = fell and best.gold_low is not None and last.gold_high is not None and last.gold_high < best.gold_low
        label = report.policies.get(policy) or LABELS.get(policy, policy)
        text = f"{label}: beyond some KL the reward model's score rises while the judge's falls"
        finding = (
            f"the judge's peaks at {best.kl:.1f} nats with {best.gold:.2f}; at {last.kl:.1f} nats it is {last.gold:.2f}"
        )
        yield Claim(text, "holds" if clearly else "open", finding, "Gao et al. 2022, Fig. 1")
