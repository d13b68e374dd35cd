"""How far labelers agree: pairwise, by labeler, Krippendorff's alpha, Fleiss' kappa; no torch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import combinations
from typing import Literal, TypeVar

import krippendorff
import numpy as np
from numpy.typing import ArrayLike, NDArray

from instructloop.core.rankings import Interval, proportion
from instructloop.core.records import Ranking

Ties = Literal["drop", "half", "strict"]
Level = Literal["nominal", "ordinal", "interval", "ratio"]
Judged = TypeVar("Judged", bound=Ranking)
Key = TypeVar("Key", bound=Hashable)


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
    return dict(sorted(agreement_by(rankings, lambda a, b: (a.labeler, b.labeler), ties=ties).items()))


def agreement_by(
    rankings: Iterable[Judged], keys: Callable[[Judged, Judged], Iterable[Key]], *, ties: Ties
) -> dict[Key, Interval]:
    """Return key -> agreement over the meetings of two labelers to which `keys` gives it; one without cases is absent.

    One pass for many questions: the same meeting may count for both labelers, for the two as a pair, for its week.
    """
    cases_of = dict[Key, tuple[list[float], list[str]]]()
    for a, b in _judged_twice(list(rankings)):
        if cases := list(_cases(a, b, ties)):
            for key in keys(a, b):
                outcomes, prompts = cases_of.setdefault(key, ([], []))
                outcomes += cases
                prompts += [a.prompt_id] * len(cases)
    return {key: proportion(outcomes, prompts) for key, (outcomes, prompts) in cases_of.items()}


def krippendorff_alpha(ratings: ArrayLike, level: Level) -> float:
    """Return Krippendorff's alpha of ratings[labeler, item], NaN where a labeler did not rate: 1 perfect, 0 chance.

    alpha = 1 - D_o / D_e (Krippendorff 2011): the mean distance of two ratings of one item, an item with m ratings
    weighing m, over that of any two ratings. Ratings of 1-7 are `ordinal`, flags `nominal`; any labelers may be absent.
    ValueError when no item has two ratings, or when all ratings are the same, where alpha is 0 / 0.
    """
    table = _table(ratings)
    paired = table[:, (~np.isnan(table)).sum(0) >= 2]
    if len(np.unique(paired[~np.isnan(paired)])) < 2:
        raise ValueError("alpha needs items with two ratings, and two different ratings among them")
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement=level))


def fleiss_kappa(ratings: ArrayLike) -> float:
    """Return Fleiss' kappa of ratings[labeler, item], categories as numbers, NaN where a labeler did not rate.

    kappa = (P - P_e) / (1 - P_e) (Fleiss 1971): P is the mean over items of sum_j n_j (n_j - 1) / n (n - 1),
    where n_j of n labelers chose j, and P_e = sum_j p_j^2 over the shares of all ratings. Who rated may differ between
    items, how many may not. ValueError for that, for fewer than two ratings an item, and when all ratings are the same.
    """
    table = _table(ratings)
    num_labelers_I = (~np.isnan(table)).sum(0)
    if len(np.unique(num_labelers_I)) != 1 or num_labelers_I[0] < 2:
        raise ValueError("kappa needs as many ratings of every item, and two at least; alpha does not")
    categories = np.unique(table[~np.isnan(table)])
    if len(categories) < 2:
        raise ValueError("kappa needs two different ratings; all are the same")
    n = int(num_labelers_I[0])
    counts_IJ = np.stack([(table == category).sum(0) for category in categories], axis=1)
    observed = float((counts_IJ * (counts_IJ - 1)).sum(1).mean()) / (n * (n - 1))
    expected = float(((counts_IJ.mean(0) / n) ** 2).sum())
    return (observed - expected) / (1.0 - expected)


def _table(ratings: ArrayLike) -> NDArray[np.float64]:
    table: NDArray[np.float64] = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"ratings must be labelers x items, not of shape {table.shape}")
    return table


def _by_prompt(rankings: Iterable[Judged]) -> dict[str, list[Judged]]:
    groups = dict[str, list[Judged]]()
    for ranking in rankings:
        groups.setdefault(ranking.prompt_id, []).append(ranking)
    return groups


def _judged_twice(rankings: Sequence[Judged]) -> Iterator[tuple[Judged, Judged]]:
    """Yield every two rankings of one prompt by different labelers."""
    for group in _by_prompt(rankings).values():
        yield from ((a, b) for a, b in combinations(group, 2) if a.labeler != b.labeler)


def _order(ranking: Ranking) -> dict[str, int]:
    return {completion: tier for tier, tied in enumerate(ranking.tiers) for completion in tied}


def _cases(a: Ranking, b: Ranking, ties: Ties) -> Iterator[float]:
    """Yield the agreement of two rankings on each pair of completions that both hold."""
    order_a, order_b = _order(a), _order(b)
    for x, y in combinations(sorted(order_a.keys() & order_b.keys()), 2):
        side_a, side_b = ((order[x] > order[y]) - (order[x] < order[y]) for order in (order_a, order_b))
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
