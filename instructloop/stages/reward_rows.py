"""From frozen rankings to what a reward model learns from: folds of labelers, ties, prompts as ids; drops counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from instructloop.core.rankings import num_comparisons

if TYPE_CHECKING:
    from instructloop.models.text import Text
    from instructloop.train.ranked import RankedPrompt


MANY_COMPLETIONS = 32
"""A prompt with more ranked completions than this is no question but a frame for many ("Tell me something funny.")."""
GROUP_COMPLETIONS = 9
"""Completions of such a prompt that are learned from together: the paper's largest K."""


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """How long a prompt (cut at its start) and a completion (dropped) may be; EOS counts."""

    prompt: int
    completion: int


def fold_labelers(num_rankings: Mapping[str, int], num_folds: int | None, fold: int | None) -> frozenset[str]:
    """Return the labelers of one of `num_folds` groups with about equally many rankings each (E.2); none without folds.

    The labeler with most rankings goes first, each to the group that has fewest so far.
    """
    if num_folds is None or fold is None:
        return frozenset()
    if len(num_rankings) < num_folds:
        raise ValueError(f"num_folds {num_folds} needs as many labelers; the rankings are by {len(num_rankings)}")
    groups: list[list[str]] = [[] for _ in range(num_folds)]
    for labeler in sorted(num_rankings, key=lambda labeler: (-num_rankings[labeler], labeler)):
        min(groups, key=lambda group: sum(num_rankings[other] for other in group)).append(labeler)
    return frozenset(groups[fold])


def ranked_prompts(
    rows: Sequence[Mapping[str, Any]], text: Text, limits: TokenLimits
) -> tuple[list[RankedPrompt], dict[str, int]]:
    """Return one RankedPrompt for each prompt that has a comparison, and what was found and dropped, counted.

    All labelers' rankings of a prompt stand together and share its forwards. A tie yields no comparison; a prompt whose
    completions all tie yields none at all and is dropped before weights are formed (architecture 7.3). A prompt with
    MANY_COMPLETIONS gives several, each with rankings that share completions.
    """
    by_prompt: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_prompt[row["prompt_id"]].append(row)
    facts = Counter({"prompts": 0, "rankings": 0, "comparisons": 0, "ties": 0})
    facts.update({"dropped_too_long_completions": 0, "dropped_all_tied_prompts": 0, "truncated_prompts": 0})
    prompts: list[RankedPrompt] = []
    for prompt_id, group in sorted(by_prompt.items()):
        prompt = _ranked_prompt(prompt_id, group, text, limits, facts)
        if not prompt.rankings:
            facts["dropped_all_tied_prompts"] += 1
            continue
        facts["prompts"] += 1
        prompts += _groups(prompt) if is_frame(len(prompt.rows)) else [prompt]
    if not prompts:
        raise ValueError(f"there is no comparison to learn from: {dict(facts)}")
    return prompts, dict(facts)


def _ranked_prompt(
    prompt_id: str,
    group: Sequence[Mapping[str, Any]],
    text: Text,
    limits: TokenLimits,
    facts: Counter[str],
) -> RankedPrompt:
    """Return a prompt with the rankings that have a comparison, and only the completions that they rank."""
    from instructloop.train.ranked import RankedPrompt

    start = text.prompt_ids(group[0]["prompt"])
    if len(start) > limits.prompt:
        start = text.prompt_ids(group[0]["prompt"], max_tokens=limits.prompt)
        facts["truncated_prompts"] += 1
    ids = {one["id"]: text.completion_ids(one["text"]) for row in group for one in row["completions"]}
    fitting = {identity for identity, completion in ids.items() if len(completion) <= limits.completion}
    facts["dropped_too_long_completions"] += len(ids) - len(fitting)
    number: dict[str, int] = {}
    rankings: list[tuple[tuple[int, ...], ...]] = []
    for row in group:
        kept = [[one for one in tier if one in fitting] for tier in row["tiers"]]
        pairs, size = num_comparisons(kept), sum(map(len, kept))
        facts["ties"] += size * (size - 1) // 2 - pairs
        if pairs:
            facts["rankings"] += 1
            facts["comparisons"] += pairs
            rankings.append(tuple(tuple(number.setdefault(one, len(number)) for one in tier) for tier in kept if tier))
    return RankedPrompt(prompt_id, tuple([*start, *ids[one]] for one in number), tuple(rankings))


def is_frame(num_completions: int) -> bool:
    """Return whether so many completions make their prompt a frame for many questions rather than one question."""
    return num_completions > MANY_COMPLETIONS


def _groups(prompt: RankedPrompt) -> list[RankedPrompt]:
    """Return the prompt's rankings dealt into groups of at most GROUP_COMPLETIONS (or one ranking's) completions.

    A group takes rankings that add the fewest completions to it, so that comparisons of one completion tend to be
    learned from in the same step (paper 3.5); none is lost.
    """
    members = [frozenset(row for tier in tiers for row in tier) for tiers in prompt.rankings]
    touching: dict[int, list[int]] = defaultdict(list)
    for ranking, rows in enumerate(members):
        for row in rows:
            touching[row].append(ranking)
    left = dict.fromkeys(range(len(members)))
    groups: list[RankedPrompt] = []
    while left:
        group = _next_group(members, touching, left)
        number: dict[int, int] = {}
        rankings = [
            tuple(tuple(number.setdefault(row, len(number)) for row in tier) for tier in prompt.rankings[ranking])
            for ranking in group
        ]
        groups.append(replace(prompt, rows=tuple(prompt.rows[row] for row in number), rankings=tuple(rankings)))
    return groups


def _next_group(
    members: Sequence[frozenset[int]], touching: Mapping[int, Sequence[int]], left: dict[int, None]
) -> list[int]:
    """Take from `left` the rankings of one group."""
    group: list[int] = []
    held: set[int] = set()
    while left:
        near = {ranking for row in held for ranking in touching[row] if ranking in left}
        best = min(near or [next(iter(left))], key=lambda ranking: (len(members[ranking] - held), ranking))
        if group and len(held | members[best]) > GROUP_COMPLETIONS:
            break
        group.append(best)
        held |= members[best]
        del left[best]
    return group
