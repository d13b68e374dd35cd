"""Policies head to head on the same prompts, by labelers' frozen rankings or by a callable score; no model runs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from instructloop.core.rankings import Interval, mean_interval, win_rate
from instructloop.core.records import FLAGS

Row = Mapping[str, Any]  # one line of rankings.jsonl, as store.freeze writes it
Score = Callable[[str, str], float]  # (prompt, completion) -> gold score


@dataclass(frozen=True, slots=True)
class Outcome:
    """One judgement of a policy's completion against the baseline's: 1 better, 1/2 tied, 0 worse."""

    prompt_id: str
    policy: str
    value: float
    log_length_ratio: float  # log((1 + words of the policy's) / (1 + words of the baseline's))
    category: str | None


def are_simulated(rows: Iterable[Row]) -> bool:
    """Return whether simulated labelers judged any of it: by the loop itself, or as visitors of the app."""
    return any(row["origin"] == "simulated" for row in rows)


def outcomes(rows: Iterable[Row], *, baseline: str) -> Iterator[Outcome]:
    """Yield every judgement in which a policy and `baseline` met, a tie as 1/2 (paper 3.6, 4.1).

    A policy with several completions in a row meets the baseline once with each. The baseline does not meet itself.
    """
    for row in rows:
        place = {identity: rank for rank, tier in enumerate(row["tiers"]) for identity in tier}
        yield from _meetings(row, baseline, lambda completion, place=place: -place[completion["id"]], tie_margin=0.0)


def gold_outcomes(rows: Iterable[Row], score: Score, *, baseline: str, tie_margin: float = 0.0) -> Iterator[Outcome]:
    """Yield the same meetings as `score` decides them: a gap of at most `tie_margin` is a tie.

    A prompt that several labelers ranked counts once: the score would only repeat itself.
    """
    for row in _one_row_per_prompt(rows):
        gold = {c["id"]: score(row["prompt"], c["text"]) for c in row["completions"]}
        yield from _meetings(row, baseline, lambda completion, gold=gold: gold[completion["id"]], tie_margin=tie_margin)


def win_rates(judgements: Iterable[Outcome], *, baseline: str) -> dict[str, Interval]:
    """Return each policy's win rate against `baseline`, 0..1, with the interval clustered by prompt.

    The baseline's own is .5 by definition, without width; it is counted on all judgements.
    """
    by_policy = defaultdict[str, list[Outcome]](list)
    for one in judgements:
        by_policy[one.policy].append(one)
    every = [one for group in by_policy.values() for one in group]
    if not every:
        raise ValueError(f"no judgement compares a policy with the baseline {baseline!r}")
    rates = {
        policy: win_rate([o.value for o in group], [o.prompt_id for o in group]) for policy, group in by_policy.items()
    }
    return {**rates, baseline: Interval(0.5, 0.5, 0.5, len(every), len({one.prompt_id for one in every}))}


def win_rates_by_category(judgements: Iterable[Outcome], *, baseline: str) -> dict[str, dict[str, Interval]]:
    """Return category -> policy -> win rate: one category can collapse unseen in the mean."""
    by_category = defaultdict[str, list[Outcome]](list)
    for one in judgements:
        by_category[one.category or "none"].append(one)
    return {category: win_rates(group, baseline=baseline) for category, group in sorted(by_category.items())}


def length_controlled_win_rates(judgements: Iterable[Outcome]) -> dict[str, Interval]:
    """Return each policy's win rate at equal length: the value at 0 of outcome regressed on the log length ratio.

    Least squares with a clustered variance of the intercept; clipped to 0..1. A policy whose length ratio does not
    vary has no such figure and is left out.
    """
    by_policy = defaultdict[str, list[Outcome]](list)
    for one in judgements:
        by_policy[one.policy].append(one)
    controlled: dict[str, Interval] = {}
    for policy, group in by_policy.items():
        adjusted = _at_equal_length(group)
        if adjusted is not None:
            at_zero = mean_interval(adjusted, [one.prompt_id for one in group])
            value, low, high = (min(1.0, max(0.0, end)) for end in (at_zero.value, at_zero.low, at_zero.high))
            controlled[policy] = Interval(value, low, high, at_zero.n, at_zero.n_clusters)
    return controlled


def likert(rows: Iterable[Row]) -> dict[str, Interval]:
    """Return each policy's mean rating, 1..7, clustered by prompt; unanswered ratings are left out (Fig. 31)."""
    values = defaultdict[str, list[tuple[float, str]]](list)
    for row in rows:
        for completion in row["completions"]:
            rating = row["ratings"].get(completion["id"])
            if rating is not None:
                values[completion["policy"]].append((float(rating), row["prompt_id"]))
    return _means(values, bounds=(1.0, 7.0))


def flag_prevalence(rows: Iterable[Row]) -> dict[str, dict[str, Interval]]:
    """Return flag -> policy -> share of answers that are yes (Table 3, Fig. 4); unanswered flags are left out.

    A flag nobody was asked about has no entry: hallucination is asked on closed-domain prompts only.
    """
    values = {flag: defaultdict[str, list[tuple[float, str]]](list) for flag in FLAGS}
    for row in rows:
        policies = {completion["id"]: completion["policy"] for completion in row["completions"]}
        for identity, answers in row["flags"].items():
            for flag, answer in answers.items():
                if answer is not None:
                    values[flag][policies[identity]].append((float(answer), row["prompt_id"]))
    return {flag: _means(by_policy, bounds=(0.0, 1.0)) for flag, by_policy in values.items() if by_policy}


def gold_means(rows: Iterable[Row], score: Score) -> dict[str, Interval]:
    """Return each policy's mean gold score, clustered by prompt; each prompt counts once."""
    values = defaultdict[str, list[tuple[float, str]]](list)
    for row in _one_row_per_prompt(rows):
        for completion in row["completions"]:
            values[completion["policy"]].append((score(row["prompt"], completion["text"]), row["prompt_id"]))
    return _means(values, bounds=None)


def _meetings(row: Row, baseline: str, worth: Callable[[Row], float], *, tie_margin: float) -> Iterator[Outcome]:
    against = [completion for completion in row["completions"] if completion["policy"] == baseline]
    for completion in row["completions"]:
        if completion["policy"] == baseline:
            continue
        for other in against:
            gap = worth(completion) - worth(other)
            value = 0.5 if abs(gap) <= tie_margin else float(gap > 0)
            ratio = math.log((1 + len(completion["text"].split())) / (1 + len(other["text"].split())))
            yield Outcome(row["prompt_id"], completion["policy"], value, ratio, row.get("category"))


def _one_row_per_prompt(rows: Iterable[Row]) -> list[Row]:
    merged: dict[str, dict[str, Any]] = {}
    for row in rows:
        known = merged.setdefault(row["prompt_id"], {**row, "completions": []})
        seen = {completion["id"] for completion in known["completions"]}
        known["completions"] += [completion for completion in row["completions"] if completion["id"] not in seen]
    return list(merged.values())


def _at_equal_length(group: Sequence[Outcome]) -> list[float] | None:
    """Return values whose mean is the regression's intercept and whose spread gives its variance."""
    mean_ratio = math.fsum(one.log_length_ratio for one in group) / len(group)
    mean_value = math.fsum(one.value for one in group) / len(group)
    spread = math.fsum((one.log_length_ratio - mean_ratio) ** 2 for one in group)
    if spread < 1e-12:
        return None
    slope = math.fsum((one.log_length_ratio - mean_ratio) * (one.value - mean_value) for one in group) / spread
    intercept = mean_value - slope * mean_ratio
    # the intercept's influence function: a residual times its weight in the intercept
    weights = [1 - len(group) * mean_ratio * (one.log_length_ratio - mean_ratio) / spread for one in group]
    return [
        intercept + weight * (one.value - intercept - slope * one.log_length_ratio)
        for weight, one in zip(weights, group, strict=True)
    ]


def _means(
    values: Mapping[str, Sequence[tuple[float, str]]], *, bounds: tuple[float, float] | None
) -> dict[str, Interval]:
    return {
        policy: mean_interval([value for value, _ in pairs], [prompt for _, prompt in pairs], bounds=bounds)
        for policy, pairs in sorted(values.items())
    }
