"""Rankings: comparisons by hand; intervals are honest; strengths are those of two libraries."""

import math
from collections import Counter
from itertools import permutations

import choix
import evalica
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import stdtrit

from instructloop.core.rankings import (
    Interval,
    bradley_terry,
    comparisons,
    difference,
    dyadic_proportion,
    mean_interval,
    num_comparisons,
    proportion,
    win_rate,
)

# --- comparisons --------------------------------------------------------------------------------------------------


def test_comparisons_of_a_ranking_with_a_tie_by_hand():
    assert set(comparisons([["a"], ["b", "c"], ["d"]])) == {
        ("a", "b"),
        ("a", "c"),
        ("a", "d"),
        ("b", "d"),
        ("c", "d"),
    }


def test_ties_yield_no_comparison():
    assert list(comparisons([["a", "b", "c"]])) == []
    assert num_comparisons([["a", "b", "c"]]) == 0
    assert list(comparisons([])) == []


@pytest.mark.parametrize(("num_completions", "expected"), [(2, 1), (4, 6), (9, 36)])
def test_a_strict_ranking_has_all_pairs(num_completions: int, expected: int):
    tiers = [[i] for i in range(num_completions)]
    assert len(list(comparisons(tiers))) == num_comparisons(tiers) == expected


# --- intervals ----------------------------------------------------------------------------------------------------


def test_a_clustered_interval_by_hand():
    # Values 1 1 0 | 0 | 1 0 in three clusters, mean .5. Residual sums .5, -.5, 0; variance (.25 + .25) / 6^2 * 3 / 2
    # = 1/48; Student's quantile with 2 degrees 4.302653.
    interval = mean_interval([1, 1, 0, 0, 1, 0], list("aaabcc"))
    reach = 4.302653 * math.sqrt(1 / 48)
    assert interval.value == pytest.approx(0.5)
    assert (interval.low, interval.high) == pytest.approx((0.5 - reach, 0.5 + reach), abs=1e-5)
    assert (interval.n, interval.n_clusters) == (6, 3)


def test_a_proportion_by_hand_is_wilson_with_the_sample_size_that_the_variance_implies():
    # The same data: .25 / (1/48) = 12 values' worth; Wilson 1927 with z = 4.302653, n = 12 at p = .5 is symmetric:
    # reach = z sqrt(.25 / n + z^2 / 4 n^2) / (1 + z^2 / n) = .390...
    z, n = 4.302653, 12
    reach = z * math.sqrt(0.25 / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    interval = proportion([1, 1, 0, 0, 1, 0], list("aaabcc"))
    assert (interval.low, interval.high) == pytest.approx((0.5 - reach, 0.5 + reach), abs=1e-5)


def test_with_one_value_per_cluster_the_interval_is_students():
    values = np.random.default_rng(1).normal(3.0, 2.0, 25)
    expected = scipy.stats.t.interval(0.9, 24, loc=values.mean(), scale=scipy.stats.sem(values))
    interval = mean_interval(values.tolist(), range(25), confidence=0.9)
    assert (interval.low, interval.high) == pytest.approx(expected)


def test_saying_everything_twice_inside_a_cluster_adds_nothing():
    values, clusters = [1.0, 0.0, 0.5, 1.0, 1.0], [1, 2, 3, 4, 5]
    once, twice = proportion(values, clusters), proportion(values * 2, clusters * 2)
    assert (twice.value, twice.low, twice.high) == pytest.approx((once.value, once.low, once.high))
    assert (twice.n, twice.n_clusters) == (10, 5)


def test_judgements_of_one_prompt_count_as_less_than_those_of_many():
    values = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    alike, apart = proportion(values, [1, 1, 2, 2, 3, 3, 4, 4]), proportion(values, range(8))
    assert alike.high - alike.low > 1.3 * (apart.high - apart.low)


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("number", [1, 3, 40])
def test_where_nothing_varies_the_interval_is_wilsons_and_never_of_width_0(share: float, number: int):
    interval = proportion([share] * number, range(number))
    exact = scipy.stats.binomtest(round(share * number), number).proportion_ci(method="wilson")
    assert (interval.low, interval.high) == pytest.approx((exact.low, exact.high))
    assert interval.high - interval.low > 3.8 / (number + 3.9)


def test_three_ties_do_not_prove_a_tie():
    interval = win_rate([0.5, 0.5, 0.5], ["p", "q", "r"])
    assert interval.value == 0.5
    assert interval.low < 0.2 < 0.8 < interval.high


def test_one_cluster_is_one_observation_however_many_values_it_has():
    interval = proportion([1.0, 0.0] * 50, ["p"] * 100)
    assert (interval.low, interval.high) == pytest.approx((0.0546, 0.9454), abs=1e-3)  # Wilson at p = .5, n = 1


def test_without_bounds_nothing_is_known_of_a_spread_that_was_not_seen():
    interval = mean_interval([4.0, 4.0, 4.0], [1, 2, 3])
    assert (interval.low, interval.high) == (-math.inf, math.inf)
    assert interval.as_dict() == {"value": 4.0, "low": None, "high": None, "n": 3, "n_clusters": 3}


def test_bounds_are_a_change_of_scale():
    values, clusters = [1.0, 7.0, 4.0, 6.0, 6.0], [1, 2, 3, 4, 4]
    likert = mean_interval(values, clusters, bounds=(1, 7))
    share = proportion([(value - 1) / 6 for value in values], clusters)
    assert (likert.low, likert.high) == pytest.approx((1 + 6 * share.low, 1 + 6 * share.high))
    constant = mean_interval([7.0] * 3, [1, 2, 3], bounds=(1, 7))
    assert constant.high == pytest.approx(7.0)
    assert constant.low < 5.0


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 5)), min_size=1, max_size=30))
def test_an_interval_of_shares_holds_its_value_inside_0_and_1_and_has_a_width(judgements: list[tuple[float, int]]):
    outcomes, clusters = zip(*judgements, strict=True)
    interval = win_rate(outcomes, clusters)
    assert 0.0 <= interval.low <= interval.value + 1e-12
    assert interval.value - 1e-12 <= interval.high <= 1.0
    assert interval.high - interval.low > 1e-3
    mirrored = win_rate([1.0 - outcome for outcome in outcomes], clusters)
    assert (mirrored.low, mirrored.high) == pytest.approx((1.0 - interval.high, 1.0 - interval.low), abs=1e-9)


@pytest.mark.parametrize(("num_clusters", "mean"), [(10, 0.6), (40, 0.6), (40, 0.93)])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(num_clusters: int, mean: float):
    generator, covered = np.random.default_rng(7), 0
    clusters = np.repeat(np.arange(num_clusters), 3).tolist()
    for _ in range(600):
        # Three judgements of a prompt share its own rate: beta-distributed, intra-cluster correlation 1/4.
        rate = generator.beta(3 * mean, 3 * (1 - mean), num_clusters)
        values = (generator.random((num_clusters, 3)) < rate[:, None]).astype(float).ravel().tolist()
        interval = proportion(values, clusters)
        covered += interval.low <= mean <= interval.high
    # 600 draws at 95 % have a standard error of .9 %; an interval that ignored the clusters would cover about 89 %.
    assert 0.92 <= covered / 600 <= 0.985


def test_pairs_that_share_a_member_depend_on_one_another_by_hand():
    # residuals 1/3, 1/3, -2/3; the first two share a: (1 + 1 + 4) / 9 + 2 / 9 = 8 / 9, over 3^2, times 5 / 4 members
    interval = dyadic_proportion([1.0, 1.0, 0.0], [("a", "b"), ("a", "c"), ("d", "e")])
    implied = (2 / 3) * (1 / 3) / (8 / 9 / 9 * 5 / 4)  # the sample size that this variance means for a share of 2/3
    low, high = wilson(2 / 3, implied, stdtrit(4, 0.975))
    assert (interval.value, interval.n, interval.n_clusters) == (pytest.approx(2 / 3), 3, 5)
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_without_shared_members_pairs_are_independent_and_a_repeated_pair_adds_nothing():
    outcomes, pairs = [1.0, 0.0, 1.0, 1.0], [(i, -i - 1) for i in range(4)]
    apart = dyadic_proportion(outcomes, pairs)
    # the same variance as one cluster a pair but for the factor M / (M - 1): 8 / 7 in place of 4 / 3
    variance = sum((x - 0.75) ** 2 for x in outcomes) / 16 * 8 / 7
    assert apart.low == pytest.approx(wilson(0.75, 0.75 * 0.25 / variance, stdtrit(7, 0.975))[0])
    twice = dyadic_proportion(outcomes * 2, [*pairs, *((loser, winner) for winner, loser in pairs)])
    assert (twice.low, twice.high) == pytest.approx((apart.low, apart.high))


def test_a_dyadic_interval_covers_the_truth_about_as_often_as_it_says():
    rng, covered = np.random.default_rng(7), 0
    for _ in range(300):
        strength = rng.normal(size=40)
        pairs = [tuple(rng.choice(40, 2, replace=False)) for _ in range(200)]
        # whether a scorer is right goes with how easy both members are: dependent through members, mean 1/2 by symmetry
        values = [float(rng.random() < 1 / (1 + np.exp(-1.5 * (strength[a] + strength[b])))) for a, b in pairs]
        interval = dyadic_proportion(values, pairs)
        covered += interval.low <= 0.5 <= interval.high
    assert 0.90 <= covered / 300 <= 0.99


def wilson(p: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's interval, from the two roots of (p - x)^2 = z^2 x (1 - x) / n."""
    roots = np.roots([1 + z * z / n, -(2 * p + z * z / n), p * p])
    return float(min(roots)), float(max(roots))


def test_ties_are_half_a_win_and_other_outcomes_are_refused():
    assert win_rate([1, 0.5, 0], [1, 2, 3]).value == pytest.approx(0.5)
    assert win_rate([1, 0.5, 0.5, 1], [1, 2, 3, 4]).value == pytest.approx(0.75)
    with pytest.raises(ValueError, match=r"not 0\.7"):
        win_rate([1, 0.7], [1, 2])


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [([], [], "0 values"), ([1.0], [1, 2], "2 clusters"), ([math.nan], [1], "NaN"), ([4.0], [1], "bounds")],
)
def test_what_has_no_interval_is_refused(values, clusters, message: str):
    with pytest.raises(ValueError, match=message):
        proportion(values, clusters)


def test_confidence_must_be_a_share():
    with pytest.raises(ValueError, match="confidence 95"):
        proportion([1.0], [1], confidence=95)


def test_an_interval_prints_its_numbers():
    assert str(Interval(0.5, 0.25, 0.75, 12, 4)) == "0.500 [0.250, 0.750], n = 12 in 4"


# --- Bradley-Terry ------------------------------------------------------------------------------------------------


def test_three_wins_to_one_are_log_odds_of_log_3():
    strengths = bradley_terry({("a", "b"): 3, ("b", "a"): 1})
    assert strengths["a"] - strengths["b"] == pytest.approx(math.log(3))
    assert sum(strengths.values()) == pytest.approx(0.0)


def played(seed: int, num_policies: int) -> list[tuple[int, int]]:
    """Draw 300 comparisons from known strengths, and every pair once each way so that a maximum exists."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(0.0, 1.0, num_policies)
    pairs = list(permutations(range(num_policies), 2))
    for _ in range(300):
        a, b = generator.choice(num_policies, 2, replace=False).tolist()
        pairs.append((a, b) if generator.random() < 1 / (1 + np.exp(truth[b] - truth[a])) else (b, a))
    return pairs


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_strengths_are_those_of_choix(seed: int):
    pairs = played(seed, 5)
    expected = choix.ilsr_pairwise(5, pairs)
    found = bradley_terry(Counter((str(a), str(b)) for a, b in pairs))
    assert [found[str(i)] for i in range(5)] == pytest.approx((expected - expected.mean()).tolist(), abs=1e-5)


def test_strengths_with_ties_as_half_wins_are_those_of_evalica():
    pairs = [(str(a), str(b)) for a, b in played(4, 4)]
    outcomes = [evalica.Winner.Draw if i % 4 == 0 else evalica.Winner.X for i in range(len(pairs))]
    wins = Counter[tuple[str, str]]()
    for (a, b), outcome in zip(pairs, outcomes, strict=True):
        if outcome == evalica.Winner.X:
            wins[a, b] += 1
        else:
            wins[a, b] += 0.5
            wins[b, a] += 0.5
    result = evalica.bradley_terry(*zip(*pairs, strict=True), outcomes, tie_weight=0.5, tolerance=1e-10, limit=10_000)
    expected = np.log(result.scores)
    expected -= expected.mean()
    assert bradley_terry(wins) == pytest.approx(expected.to_dict(), abs=1e-4)


def test_at_the_maximum_everyone_wins_as_often_as_expected():
    wins = Counter((str(a), str(b)) for a, b in played(5, 6))
    strengths = bradley_terry(wins)
    for name in strengths:
        expected = sum(
            (wins[name, other] + wins[other, name]) / (1 + math.exp(strengths[other] - strengths[name]))
            for other in strengths
            if other != name
        )
        assert expected == pytest.approx(sum(wins[name, other] for other in strengths), abs=1e-6)


def test_comparisons_of_rankings_go_straight_into_strengths():
    wins = Counter[tuple[str, str]]()
    for tiers in ([["a"], ["b", "c"]], [["b"], ["a"], ["c"]], [["c"], ["a", "b"]]):
        wins.update(comparisons(tiers))
    strengths = bradley_terry(wins)
    # a beat b once, lost once; b beat c once, lost once; a beat c twice, lost once; so by symmetry b is in the middle.
    assert strengths["a"] > strengths["b"] > strengths["c"]
    assert strengths["b"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    "wins",
    [
        {("a", "b"): 5},
        {("a", "b"): 1, ("b", "a"): 1, ("b", "c"): 1, ("a", "c"): 9},
        {("a", "b"): 1, ("b", "a"): 1, ("c", "d"): 1, ("d", "c"): 1},
    ],
)
def test_who_never_lost_has_no_finite_strength(wins: dict[tuple[str, str], float]):
    with pytest.raises(ValueError, match="no finite strengths"):
        bradley_terry(wins)


def test_one_sided_counts_still_converge():
    strengths = bradley_terry({("a", "b"): 100_000, ("b", "a"): 1})
    assert strengths["a"] - strengths["b"] == pytest.approx(math.log(100_000), rel=1e-6)


def test_a_ring_of_wins_makes_everyone_equal():
    ring = {("a", "b"): 2.0, ("b", "c"): 2.0, ("c", "d"): 2.0, ("d", "a"): 2.0}
    assert bradley_terry(ring) == pytest.approx(dict.fromkeys("abcd", 0.0))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_counts_of_any_size_settle_where_wins_are_as_expected(seed: int):
    generator = np.random.default_rng(seed)
    names = "abcde"[: generator.integers(2, 6)]
    # Everyone beats the next, so a maximum exists; other pairs meet sometimes, up to 100 000 times.
    wins = {(a, names[(i + 1) % len(names)]): float(10 ** generator.uniform(0, 5)) for i, a in enumerate(names)}
    wins |= {pair: float(10 ** generator.uniform(0, 5)) for pair in permutations(names, 2) if generator.random() < 0.3}
    strengths = bradley_terry(wins)
    assert sum(strengths.values()) == pytest.approx(0.0, abs=1e-9)
    for name in names:
        expected = 0.0
        for other in set(names) - {name}:
            met = wins.get((name, other), 0.0) + wins.get((other, name), 0.0)
            expected += met / (1 + math.exp(strengths[other] - strengths[name]))
        won = sum(times for (winner, _), times in wins.items() if winner == name)
        assert expected == pytest.approx(won, rel=1e-3)  # counts from 1 to 100 000 in one sum


@pytest.mark.parametrize("wins", [{("a", "a"): 1}, {("a", "b"): -1}, {("a", "b"): math.inf}])
def test_impossible_counts_are_refused(wins: dict[tuple[str, str], float]):
    with pytest.raises(ValueError, match="finite count"):
        bradley_terry(wins)


@pytest.mark.parametrize(
    ("first", "second", "published"),
    # Newcombe 1998, "Interval estimation for the difference between independent proportions", table II, method 10.
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((10, 10), (0, 20), (0.6791, 1.0)),
    ],
)
def test_the_difference_of_two_shares_is_newcombes(first, second, published):
    shares = [wilson_share(*one) for one in (first, second)]
    found = difference(*shares)
    assert found.value == pytest.approx(first[0] / first[1] - second[0] / second[1])
    assert (found.low, found.high) == pytest.approx(published, abs=5e-5)
    assert found.n == first[1] + second[1]


def wilson_share(won: int, n: int) -> Interval:
    """Return a share with Wilson's interval at 95 % as another library has it."""
    low, high = scipy.stats.binomtest(won, n).proportion_ci(method="wilson")
    return Interval(won / n, low, high, n, n)
