"""How well a reward model foretells rankings that it did not learn from, and what its scores go with."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from statistics import StatisticsError, correlation, fmean, pstdev
from typing import TYPE_CHECKING, Any

from instructloop.core.rankings import comparisons, dyadic_proportion, proportion
from instructloop.runs import Run
from instructloop.stages.prompts_file import read_rows
from instructloop.stages.reward_rows import TokenLimits

if TYPE_CHECKING:
    from instructloop.models.scalar import ScalarModel
    from instructloop.models.text import Text
    from instructloop.train.ranked import RankedPrompt

Row = Mapping[str, Any]
Key = tuple[str, str]
"""A prompt's and a completion's id."""
MOST_TRAINED = 1000
"""At most so many of the completions that were learned are scored afterwards."""


def demonstration_scores(
    model: ScalarModel, text: Text, demonstrations: Run, limits: TokenLimits
) -> tuple[list[float], int]:
    """Return the score of every training demonstration that fits, whose mean becomes 0 (C.2), and how many do not."""
    from instructloop.train.ranked import score_rows

    rows: list[list[int]] = []
    num_dropped = 0
    for row in read_rows(demonstrations.file("demonstrations.jsonl")):
        if row["split"] != "train":
            continue
        completion = text.completion_ids(row["completion"])
        if len(completion) > limits.completion:
            num_dropped += 1
        else:
            rows.append([*text.prompt_ids(row["prompt"], max_tokens=limits.prompt), *completion])
    if not rows:
        raise ValueError(
            f"{demonstrations.id} holds no training demonstration that fits: nothing can score 0 on average"
        )
    return score_rows(model, text, rows), num_dropped


def measure(
    model: ScalarModel,
    text: Text,
    learned: Sequence[RankedPrompt],
    held_out: Sequence[Row],
    *,
    seen: Collection[str],
    limits: TokenLimits,
) -> dict[str, Any]:
    """Return accuracies on held-out rankings with intervals clustered by prompt, and facts about the scores.

    Where all are of one prompt, comparisons that share a completion are what depends on one another.

    A comparison counts 1 where the winner scores higher, .5 where both score alike. `accuracy_heldout` is over all
    labelers but the held-out cohort; `accuracy_seen_labelers` and `accuracy_unseen_labelers` divide by whether one is
    among `seen`; `baselines.longer` is how often the longer completion won. What has no ranking is left out.
    """
    scores, lengths, num_dropped = _scored(model, text, held_out, limits)
    hits = [hit for row in held_out for hit in _hits(row, scores, lengths)]
    of_cohort = [hit for hit in hits if hit["cohort"] != "heldout"]
    figures: dict[str, Any] = {
        "accuracy_heldout": _accuracy(of_cohort),
        "accuracy_seen_labelers": _accuracy([hit for hit in hits if hit["labeler"] in seen]),
        "accuracy_unseen_labelers": _accuracy([hit for hit in hits if hit["labeler"] not in seen]),
    }
    for name, key in (("accuracy_by_source", "origin"), ("accuracy_by_cohort", "cohort")):
        values = sorted({hit[key] for hit in hits})
        figures[name] = {value: _accuracy([hit for hit in hits if hit[key] == value]) for value in values}
    if of_cohort:
        figures["baselines"] = {"longer": _accuracy(of_cohort, "is_longer")}
    facts = {"heldout_dropped_too_long_completions": num_dropped}
    return (
        {name: value for name, value in figures.items() if value}
        | facts
        | _score_facts(model, text, learned, scores, lengths)
    )


def _scored(
    model: ScalarModel, text: Text, rows: Sequence[Row], limits: TokenLimits
) -> tuple[dict[Key, float], dict[Key, int], int]:
    """Return score and length of every ranked completion that fits the limits, and how many do not."""
    from instructloop.train.ranked import score_rows

    ids: dict[Key, list[int]] = {}
    lengths: dict[Key, int] = {}
    dropped: set[Key] = set()
    for row in rows:
        start = text.prompt_ids(row["prompt"], max_tokens=limits.prompt)
        ranked = {one for tier in row["tiers"] for one in tier}
        for one in row["completions"]:
            if one["id"] not in ranked:
                continue
            key = (row["prompt_id"], one["id"])
            completion = text.completion_ids(one["text"])
            if len(completion) > limits.completion:
                dropped.add(key)
            else:
                ids[key], lengths[key] = [*start, *completion], len(completion)
    return dict(zip(ids, score_rows(model, text, list(ids.values())), strict=True)), lengths, len(dropped)


def _hits(row: Row, scores: Mapping[Key, float], lengths: Mapping[Key, int]) -> list[dict[str, Any]]:
    """Return, for each comparison of a ranking, whether the score and whether the length foretold it."""
    found: list[dict[str, Any]] = []
    for pair in comparisons(row["tiers"]):
        winner, loser = ((row["prompt_id"], one) for one in pair)
        if winner in scores and loser in scores:
            facts = {key: row[key] for key in ("prompt_id", "labeler", "cohort", "origin")} | {"pair": pair}
            right = {
                "is_right": _half(scores[winner], scores[loser]),
                "is_longer": _half(lengths[winner], lengths[loser]),
            }
            found.append(facts | right)
    return found


def _half(winner: float, loser: float) -> float:
    return 0.5 if winner == loser else float(winner > loser)


def _accuracy(hits: Sequence[Mapping[str, Any]], name: str = "is_right") -> dict[str, Any] | None:
    if not hits:
        return None
    values, prompts = [hit[name] for hit in hits], [hit["prompt_id"] for hit in hits]
    if len(set(prompts)) == 1:
        return dyadic_proportion(values, [hit["pair"] for hit in hits]).as_dict()
    return proportion(values, prompts).as_dict()


def _score_facts(
    model: ScalarModel,
    text: Text,
    learned: Sequence[RankedPrompt],
    scores: Mapping[Key, float],
    lengths: Mapping[Key, int],
) -> dict[str, Any]:
    """Return mean and deviation of the scores of completions learned from and held out, and the pull of length.

    Of the completions learned from at most MOST_TRAINED are scored: all would take as long as a third of the training.

    `length_correlation` is Pearson's, between score and tokens, each less its prompt's mean: what length does to the
    score of one completion against another of the same prompt.
    """
    from instructloop.train.ranked import score_rows

    every = [row for prompt in learned for row in prompt.rows]
    # By lot: a prompt's completions may stand best first, so that every second one would be a winner.
    some = every if len(every) <= MOST_TRAINED else random.Random(0).sample(every, MOST_TRAINED)
    trained = score_rows(model, text, some)
    facts: dict[str, Any] = {"train_score_mean": fmean(trained), "train_score_std": pstdev(trained)}
    if not scores:
        return facts
    groups: dict[str, list[Key]] = defaultdict(list)
    for key in scores:
        groups[key[0]].append(key)
    facts |= {"heldout_score_mean": fmean(scores.values()), "heldout_score_std": pstdev(scores.values())}
    try:
        facts["length_correlation"] = correlation(_centred(scores, groups), _centred(lengths, groups))
    except StatisticsError:  # one completion, or all of one length
        facts["length_correlation"] = None
    return facts


def _centred(values: Mapping[Key, float], groups: Mapping[str, Sequence[Key]]) -> list[float]:
    return [values[key] - fmean(values[other] for other in keys) for keys in groups.values() for key in keys]
