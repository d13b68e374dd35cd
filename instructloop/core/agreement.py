"""How far labelers agree: pairwise within and between groups, by labeler, and Krippendorff's alpha; no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Literal

import krippendorff
import numpy as np
from numpy.typing import ArrayLike, NDArray

from instructloop.core.rankings import Interval, proportion
from instructloop.core.records import Ranking

Ties = Literal["drop", "half", "strict"]
Level = Literal["nominal", "ordinal", "interval", "ratio"]


def pairwise_agreement(rankings: Iterable[Ranking], *, ties: Ties) -> Interval:
    """Return the share of judged pairs on which two labelers of one prompt agree, clustered by prompt (paper 3.4).

    Every two completions that both labelers ranked are one case. `drop` leaves out a case that either side ties; `half`
    counts a one-sided tie as .5 and a common tie as 1; `strict` counts three outcomes and wants the same one.
    """
    return _share(_judged_twice(list(rankings)), ties)


def agreement_between(first: Iterable[Ranking], second: Iterable[Ranking], *, ties: Ties) -> Interval:
    """Return the share of pairs on which someone of `first` agrees with someone of `second`: cohorts, gold labels."""
    second_of = _by_prompt(second)
    meetings = ((a, b) for a in first for b in second_of.get(a.prompt_id, ()) if a.labeler != b.labeler)
    return _share(meetings, ties)


def agreement_by_labeler(rankings: Iterable[Ranking], *, ties: Ties) -> dict[str, Interval]:
    """Return for each labeler the agreement with all others, sorted by name; who shared no case is left out."""
    meetings_of = dict[str, list[tuple[Ranking, Ranking]]]()
    for a, b in _judged_twice(list(rankings)):
        meetings_of.setdefault(a.labeler, []).append((a, b))
        meetings_of.setdefault(b.labeler, []).append((a, b))
    return {
        labeler: _share(meetings, ties)
        for labeler, meetings in sorted(meetings_of.items())
        if any(True for a, b in meetings for _ in _cases(a, b, ties))
    }


def krippendorff_alpha(ratings: ArrayLike, level: Level) -> float:
    """Return Krippendorff's alpha of ratings[labeler, item], NaN where a labeler did not rate: 1 perfect, 0 chance.

    ValueError when no item has two ratings, or when all ratings are the same, where alpha is 0 / 0.
    """
    table: NDArray[np.float64] = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"ratings must be labelers x items, not of shape {table.shape}")
    paired = table[:, (~np.isnan(table)).sum(0) >= 2]
    if len(np.unique(paired[~np.isnan(paired)])) < 2:
        raise ValueError("alpha needs items with two ratings, and two different ratings among them")
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement=level))


def _by_prompt(rankings: Iterable[Ranking]) -> dict[str, list[Ranking]]:
    groups = dict[str, list[Ranking]]()
    for ranking in rankings:
        groups.setdefault(ranking.prompt_id, []).append(ranking)
    return groups


def _judged_twice(rankings: Sequence[Ranking]) -> Iterator[tuple[Ranking, Ranking]]:
    """Yield every two rankings of one prompt by different labelers."""
    for group in _by_prompt(rankings).values():
        yield from ((a, b) for a, b in combinations(group, 2) if a.labeler != b.labeler)


def _order(ranking: Ranking) -> dict[str, int]:
    return {completion: tier for tier, tied in enumerate(ranking.tiers) for completion in tied}


def _cases(a: Ranking, b: Ranking, ties: Ties) -> Iterator[float]:
    """Yield the agreement of two rankings on each pair of completions that both hold."""
    order_a, order_b = _order(a), _order(b)
    for x, y in combinations(sorted(order_a.keys() & order_b.keys()), 2):
        side_a, side_b = (np.sign(order[x] - order[y]) for order in (order_a, order_b))
        if ties == "drop" and (side_a == 0 or side_b == 0):
            continue
        is_half = ties == "half" and (side_a == 0) != (side_b == 0)
        yield 0.5 if is_half else float(side_a == side_b)


def _share(meetings: Iterable[tuple[Ranking, Ranking]], ties: Ties) -> Interval:
    outcomes, prompts = list[float](), list[str]()
    for a, b in meetings:
        for agreement in _cases(a, b, ties):
            outcomes.append(agreement)
            prompts.append(a.prompt_id)
    if not outcomes:
        raise ValueError("no agreement to measure: no two labelers compared the same two completions")
    return proportion(outcomes, prompts)
