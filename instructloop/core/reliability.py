"""How reliable ratings of single completions are: alpha, kappa, AC1 and plain agreement, clustered by prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instructloop.core.agreement import fleiss_kappa, krippendorff_alpha
from instructloop.core.rankings import Interval, interval_of, proportion

Floats = NDArray[np.float64]


def alpha_interval(ratings: ArrayLike, level: Literal["nominal", "ordinal"], clusters: Sequence[Hashable]) -> Interval:
    """Return Krippendorff's alpha of ratings[labeler, item] as `krippendorff_alpha`, with a jackknife interval.

    `clusters` names the prompt of each item; n counts the items with two ratings. Who rated does not matter, so a row
    may hold the first rating of each item whoever gave it.
    """
    value = krippendorff_alpha(ratings, level)
    counts_IV, cluster_I = _paired(ratings, clusters)
    num_I = counts_IV.sum(1)
    pairs_IVV = counts_IV[:, :, None] * counts_IV[:, None, :]
    num_values = counts_IV.shape[1]
    diagonal = range(num_values)
    pairs_IVV[:, diagonal, diagonal] -= counts_IV
    parts = _by_cluster((pairs_IVV / (num_I - 1.0)[:, None, None]).reshape(len(num_I), -1), cluster_I)

    def alpha(parts_RM: Floats) -> Floats:
        coincidences_RVV = parts_RM.reshape(len(parts_RM), *pairs_IVV.shape[1:])
        num_RV = coincidences_RVV.sum(2)
        num_R = num_RV.sum(1)
        # The distance of ordinal values is that of their mean ranks: Krippendorff's sum over the values between.
        place_RV = np.cumsum(num_RV, axis=1) - num_RV / 2.0
        distance_RVV = (
            (place_RV[:, :, None] - place_RV[:, None, :]) ** 2 if level == "ordinal" else 1.0 - np.eye(num_values)
        )
        observed_R = (coincidences_RVV * distance_RVV).sum((1, 2))
        expected_R = (num_RV[:, :, None] * num_RV[:, None, :] * distance_RVV).sum((1, 2))
        with np.errstate(invalid="ignore"):
            return 1.0 - (num_R - 1.0) * observed_R / expected_R

    return _jackknifed(value, parts, alpha, len(num_I))


def kappa_interval(ratings: ArrayLike, clusters: Sequence[Hashable]) -> Interval:
    """Return Fleiss' kappa as `fleiss_kappa`, with a jackknife interval; every item must have as many ratings."""
    value = fleiss_kappa(ratings)
    counts_IV, cluster_I = _paired(ratings, clusters)
    num = counts_IV[0].sum()
    agreed_I = (counts_IV * (counts_IV - 1.0)).sum(1) / (num * (num - 1.0))
    columns = np.column_stack([np.ones(len(agreed_I)), agreed_I, counts_IV])

    def kappa(parts_RM: Floats) -> Floats:
        num_items_R = parts_RM[:, 0]
        expected_R = ((parts_RM[:, 2:] / (num_items_R * num)[:, None]) ** 2).sum(1)
        return _beyond_chance(parts_RM[:, 1] / num_items_R, expected_R)

    return _jackknifed(value, _by_cluster(columns, cluster_I), kappa, len(agreed_I))


def ac1_interval(ratings: ArrayLike, clusters: Sequence[Hashable], categories: Sequence[float] = (0, 1)) -> Interval:
    """Return Gwet's AC1 of ratings[labeler, item], NaN where not rated, with a jackknife interval.

    AC1 = (P - P_e) / (1 - P_e) (Gwet 2008): P as in Fleiss' kappa over items with two ratings, P_e = sum_j q_j (1 -
    q_j) / (J - 1) with q_j the mean share of category j over all items. Rare flags leave it near P, where kappa falls.
    """
    counts_IV, cluster_I = _counted(ratings, clusters, categories)
    num_I = counts_IV.sum(1)
    is_paired_I = num_I >= 2
    if not is_paired_I.any():
        raise ValueError("AC1 needs an item with two ratings")
    pairs_I = np.where(is_paired_I, num_I * (num_I - 1.0), 1.0)
    agreed_I = np.where(is_paired_I, (counts_IV * (counts_IV - 1.0)).sum(1) / pairs_I, 0.0)
    columns = np.column_stack([is_paired_I, agreed_I, np.ones(len(num_I)), counts_IV / num_I[:, None]])
    parts = _by_cluster(columns, cluster_I)

    def ac1(parts_RM: Floats) -> Floats:
        share_RV = parts_RM[:, 3:] / parts_RM[:, 2:3]
        expected_R = (share_RV * (1.0 - share_RV)).sum(1) / (len(categories) - 1.0)
        with np.errstate(invalid="ignore"):
            return _beyond_chance(parts_RM[:, 1] / parts_RM[:, 0], expected_R)

    value = float(ac1(parts.sum(0, keepdims=True))[0])
    return _jackknifed(value, parts, ac1, int(is_paired_I.sum()))


def same_share(ratings: ArrayLike, clusters: Sequence[Hashable]) -> Interval:
    """Return the share of pairs of ratings of one item that are the same; n counts those pairs."""
    counts_IV, cluster_I = _paired(ratings, clusters)
    num_I = counts_IV.sum(1)
    num_pairs_I = (num_I * (num_I - 1.0) / 2.0).astype(int)
    num_same_I = (counts_IV * (counts_IV - 1.0) / 2.0).sum(1).astype(int)
    if not len(num_I):
        raise ValueError("no item has two ratings")
    same = np.concatenate([np.repeat([1.0, 0.0], [s, n - s]) for s, n in zip(num_same_I, num_pairs_I, strict=True)])
    return proportion(same.tolist(), np.repeat(cluster_I, num_pairs_I).tolist())


def _counted(
    ratings: ArrayLike, clusters: Sequence[Hashable], values: Sequence[float]
) -> tuple[Floats, NDArray[np.int64]]:
    """Return how many gave each value to each item that has a rating, and the number of each item's cluster."""
    table = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != len(clusters):
        raise ValueError(f"ratings of shape {table.shape} must be labelers x items, one cluster for each of the items")
    unknown = sorted(set(table[~np.isnan(table)].tolist()) - set(values))
    if unknown:
        raise ValueError(f"rating {unknown[0]} is none of the categories {list(values)}")
    number = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    cluster_I = np.array([number[cluster] for cluster in clusters], dtype=np.int64)
    counts_IV = np.stack([(table == value).sum(0) for value in values], axis=1).astype(np.float64)
    is_rated_I = counts_IV.sum(1) > 0
    return counts_IV[is_rated_I], cluster_I[is_rated_I]


def _paired(ratings: ArrayLike, clusters: Sequence[Hashable]) -> tuple[Floats, NDArray[np.int64]]:
    """Return `_counted` of the items with two ratings, over the values that occur."""
    table = np.asarray(ratings, dtype=np.float64)
    counts_IV, cluster_I = _counted(table, clusters, sorted(set(table[~np.isnan(table)].tolist())))
    is_paired_I = counts_IV.sum(1) >= 2
    return counts_IV[is_paired_I], cluster_I[is_paired_I]


def _by_cluster(columns_IM: Floats, cluster_I: NDArray[np.int64]) -> Floats:
    """Return the sums over the items of each cluster."""
    parts_GM = np.zeros((int(cluster_I.max()) + 1, columns_IM.shape[1]))
    np.add.at(parts_GM, cluster_I, columns_IM)
    return parts_GM[np.unique(cluster_I)]


def _beyond_chance(observed_R: Floats, expected_R: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return (observed_R - expected_R) / (1.0 - expected_R)


def _jackknifed(value: float, parts_GM: Floats, statistic: Callable[[Floats], Floats], n: int) -> Interval:
    """Return the interval of a statistic of sums over clusters: variance (G - 1) / G times that of leaving one out.

    It is Wilson's on the scale from -1 to 1. Where the statistic means nothing without some cluster, nothing is known.
    """
    num_clusters = len(parts_GM)
    if num_clusters < 2:
        return Interval(value, -1.0, 1.0, n, num_clusters)
    left_out_G = statistic(parts_GM.sum(0, keepdims=True) - parts_GM)
    variance = float(((left_out_G - left_out_G.mean()) ** 2).sum()) * (num_clusters - 1) / num_clusters
    if not math.isfinite(variance):
        return Interval(value, -1.0, 1.0, n, num_clusters)
    return interval_of(value, variance, n, num_clusters, bounds=(-1.0, 1.0))
