"""From rankings to numbers: comparisons, win rates with clustered intervals, Bradley-Terry strengths; no torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

Item = TypeVar("Item")


def comparisons(tiers: Sequence[Sequence[Item]]) -> Iterator[tuple[Item, Item]]:
    """Yield (winner, loser) for any two items of different tiers, best tier first; a tie yields nothing (paper 3.5)."""
    for better, worse in combinations(tiers, 2):
        for winner in better:
            for loser in worse:
                yield winner, loser


def num_comparisons(tiers: Sequence[Sequence[object]]) -> int:
    """Return how many pairs `comparisons` yields: C(K, 2) less the tied pairs."""
    sizes = [len(tier) for tier in tiers]
    return (sum(sizes) ** 2 - sum(size**2 for size in sizes)) // 2


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval; `n` values in `n_clusters` independent groups (prompts, mostly)."""

    value: float
    low: float
    high: float
    n: int
    n_clusters: int

    def as_dict(self) -> dict[str, float | int | None]:
        """Return the fields for JSON; an end that the data do not bound is None."""
        low, high = (end if math.isfinite(end) else None for end in (self.low, self.high))
        return {"value": self.value, "low": low, "high": high, "n": self.n, "n_clusters": self.n_clusters}

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}], n = {self.n} in {self.n_clusters}"


def mean_interval(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    bounds: tuple[float, float] | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Return the mean of all values with an interval that treats a cluster's values as one draw.

    The variance is sum over clusters of (sum of residuals)^2 / n^2, times G / (G - 1); the quantile is Student's with
    G - 1 degrees. With `bounds` (the scale's ends, as (1, 7)) the interval is Wilson's on that scale, with the sample
    size that the variance implies: it stays inside. When the clusters do not vary at all, or there is one, the sample
    size is their number; without bounds nothing is known of the spread then, and the ends are infinite.
    """
    x = np.asarray(values, dtype=np.float64)
    _check(x, clusters, bounds, confidence)
    num_clusters = len(set(clusters))
    value, variance = float(x.mean()), _clustered_variance(x, clusters)
    return interval_of(value, variance, len(x), num_clusters, bounds=bounds, confidence=confidence)


def ratio_interval(totals: Sequence[float], counts: Sequence[float], clusters: Sequence[Hashable]) -> Interval:
    """Return sum of totals over sum of counts (a loss per token) with the interval of the linearised ratio, clustered.

    A row's residual is total - ratio * count, over the mean count (Cochran 1977, 6.4). A row without counts is left
    out; ValueError when none has any.
    """
    rows = [(total, count, cluster) for total, count, cluster in zip(totals, counts, clusters, strict=True) if count]
    if not rows:
        raise ValueError("a ratio needs at least one row with a count")
    value = sum(total for total, _, _ in rows) / sum(count for _, count, _ in rows)
    mean_count = sum(count for _, count, _ in rows) / len(rows)
    residuals = [value + (total - value * count) / mean_count for total, count, _ in rows]
    spread = mean_interval(residuals, [cluster for _, _, cluster in rows])
    return Interval(value, spread.low, spread.high, spread.n, spread.n_clusters)


def interval_of(
    value: float,
    variance: float,
    n: int,
    num_clusters: int,
    *,
    bounds: tuple[float, float] | None,
    confidence: float = 0.95,
) -> Interval:
    """Return the interval of an estimate whose variance over clusters is known, as `mean_interval` says."""
    is_degenerate = num_clusters < 2 or variance <= 1e-18 * max(1.0, value**2)
    quantile = _quantile(confidence, None if is_degenerate else num_clusters - 1)
    if bounds is None:
        reach = math.inf if is_degenerate else quantile * math.sqrt(variance)
        return Interval(value, value - reach, value + reach, n, num_clusters)
    start, width = bounds[0], bounds[1] - bounds[0]
    p = (value - start) / width
    size = num_clusters if is_degenerate else p * (1.0 - p) * width**2 / variance
    low, high = _wilson(p, size, quantile)
    return Interval(value, start + width * low, start + width * high, n, num_clusters)


def difference(first: Interval, second: Interval) -> Interval:
    """Return first minus second with Newcombe's interval for independent shares (1998, method 10), from both theirs.

    Each end adds in squares how far each share may be wrong in that direction, so it is as asymmetric as they are.
    """
    value = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    sizes = (first.n + second.n, first.n_clusters + second.n_clusters)
    return Interval(value, value - below, value + above, *sizes)


def proportion(values: Sequence[float], clusters: Sequence[Hashable], *, confidence: float = 0.95) -> Interval:
    """Return `mean_interval` of values in [0, 1]: shares, accuracies, agreement, with a tie as .5."""
    return mean_interval(values, clusters, bounds=(0.0, 1.0), confidence=confidence)


def dyadic_proportion(
    values: Sequence[float], pairs: Sequence[tuple[Hashable, Hashable]], *, confidence: float = 0.95
) -> Interval:
    """Return the mean of values in [0, 1], each of a pair, where pairs that share a member are dependent.

    The variance is the sum of residual products over all pairs with a member in common, over n^2, times M / (M - 1)
    for M members (Aronow, Samii and Assenova 2015), and at least that of independent pairs; `n_clusters` is M.
    """
    x = np.asarray(values, dtype=np.float64)
    _check(x, pairs, (0.0, 1.0), confidence)
    of_member, of_pair = Counter[Hashable](), Counter[Hashable]()
    for residual, pair in zip(x - x.mean(), pairs, strict=True):
        of_pair[frozenset(pair)] += residual
        for member in set(pair):
            of_member[member] += residual
    apart = sum(total**2 for total in of_pair.values())
    # A product of two comparisons of the same pair stands in the sums of both members, so it is taken off once.
    shared = sum(total**2 for total in of_member.values()) - apart
    num_members = len(of_member)
    variance = max(shared, apart) / len(x) ** 2 * num_members / max(num_members - 1, 1)
    return interval_of(float(x.mean()), variance, len(x), num_members, bounds=(0.0, 1.0), confidence=confidence)


def win_rate(outcomes: Sequence[float], clusters: Sequence[Hashable], *, confidence: float = 0.95) -> Interval:
    """Return the share of wins with ties as half a win: outcomes are 1 (won), .5 (tied), 0 (lost), nothing else."""
    strange = sorted({outcome for outcome in outcomes if outcome not in (0.0, 0.5, 1.0)})
    if strange:
        raise ValueError(f"an outcome must be 0, .5 or 1, not {strange[0]}")
    return proportion(outcomes, clusters, confidence=confidence)


def _check(
    x: NDArray[np.float64], clusters: Sequence[Hashable], bounds: tuple[float, float] | None, confidence: float
) -> None:
    if len(x) == 0 or len(x) != len(clusters):
        raise ValueError(f"{len(x)} values and {len(clusters)} clusters: there must be one cluster per value, and some")
    if not np.isfinite(x).all():
        raise ValueError("a value is NaN or infinite")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence} must lie between 0 and 1")
    if bounds is not None and not bounds[0] <= x.min() <= x.max() <= bounds[1]:
        raise ValueError(f"values from {x.min():g} to {x.max():g} leave the bounds {bounds}; give mean_interval theirs")


def _clustered_variance(x: NDArray[np.float64], clusters: Sequence[Hashable]) -> float:
    """Return the variance of the mean, robust to any correlation inside a cluster; 0 for a single cluster."""
    number = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    residual_G = np.zeros(len(number))
    np.add.at(residual_G, [number[cluster] for cluster in clusters], x - x.mean())
    if len(number) < 2:
        return 0.0
    return float((residual_G**2).sum()) / len(x) ** 2 * len(number) / (len(number) - 1)


def _quantile(confidence: float, degrees: int | None) -> float:
    """Return the two-sided quantile: Student's with `degrees`, the normal one for None."""
    upper = 0.5 + confidence / 2.0
    return NormalDist().inv_cdf(upper) if degrees is None else float(cast(float, stdtrit(degrees, upper)))


def _wilson(p: float, n: float, z: float) -> tuple[float, float]:
    """Return Wilson's score interval of a share `p` among `n` (1927)."""
    centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n)
    reach = z * math.sqrt(p * (1.0 - p) / n + z * z / (4.0 * n * n)) / (1.0 + z * z / n)
    return max(0.0, centre - reach), min(1.0, centre + reach)


def bradley_terry(wins: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Return log-strengths with mean 0 that maximise the likelihood of P(a beats b) = sigmoid(s_a - s_b).

    `wins[a, b]` is how often a beat b, a tie being .5 for both: `Counter(comparisons(tiers))` will do. ValueError when
    no maximum exists, because some group never lost to the rest (Ford 1957).
    """
    names = sorted({name for pair in wins for name in pair})
    index = {name: i for i, name in enumerate(names)}
    wins_KK = np.zeros((len(names), len(names)))
    for (winner, loser), times in wins.items():
        if winner == loser or not 0.0 <= times < math.inf:
            raise ValueError(f"wins[{winner!r}, {loser!r}] = {times}: needs two names and a finite count")
        wins_KK[index[winner], index[loser]] += times
    _check_connected(wins_KK, names)
    strength_K = np.zeros(len(names))
    for _ in range(500):
        step_K, gain = _newton_step(wins_KK, strength_K)
        if gain <= 1e-14 * float(wins_KK.sum()):
            return {name: float(strength) for name, strength in zip(names, strength_K, strict=True)}
        # A full step may overshoot; one that wins a part of what its slope promises cannot go on for ever.
        before, share = _log_likelihood(wins_KK, strength_K), 1.0
        while _log_likelihood(wins_KK, strength_K + share * step_K) < before + 1e-4 * share * gain and share > 1e-6:
            share /= 2.0
        strength_K = strength_K + share * step_K
    raise ValueError(f"the strengths of {', '.join(names)} did not settle: some counts are too far apart")


def _log_likelihood(wins_KK: NDArray[np.float64], strength_K: NDArray[np.float64]) -> float:
    return -float((wins_KK * np.logaddexp(0.0, strength_K[None, :] - strength_K[:, None])).sum())


def _newton_step(wins_KK: NDArray[np.float64], strength_K: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return Newton's step on the log-likelihood, and its slope along the step: twice what is still to be won."""
    played_KK = wins_KK + wins_KK.T
    chance_KK = np.exp(-np.logaddexp(0.0, strength_K[None, :] - strength_K[:, None]))
    gradient_K = wins_KK.sum(1) - (played_KK * chance_KK).sum(1)
    slope_KK = played_KK * chance_KK * chance_KK.T
    # The likelihood ignores a common shift; adding 1 to every entry of the curvature keeps the mean at 0.
    curvature_KK = np.diag(slope_KK.sum(1)) - slope_KK + 1.0
    step_K = cast(NDArray[np.float64], np.linalg.solve(curvature_KK, gradient_K))
    return step_K, float(gradient_K @ step_K)


def _check_connected(wins_KK: NDArray[np.float64], names: Sequence[str]) -> None:
    """Raise unless everyone reaches everyone along a chain of wins."""
    reaches_KK = (wins_KK > 0.0) | np.eye(len(names), dtype=bool)
    for k in range(len(names)):
        reaches_KK |= reaches_KK[:, k : k + 1] & reaches_KK[k : k + 1, :]
    if not reaches_KK.all():
        row, column = (int(i) for i in np.argwhere(~reaches_KK)[0])
        raise ValueError(
            f"no finite strengths: {names[row]} never beat {names[column]}, not even along a chain of wins"
        )
