"""Reliability with intervals: published tables, identities, and how often the interval holds the truth."""

import math

import numpy as np
import pytest

from instructloop.core.agreement import fleiss_kappa, krippendorff_alpha
from instructloop.core.rankings import proportion
from instructloop.core.reliability import ac1_interval, alpha_interval, kappa_interval, same_share

NAN = math.nan
# Krippendorff 2011, example C; Gwet's irrCAC has the same table as `raw4raters`.
WORKED = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]
ITEMS = range(12)


def without(cluster, ratings, clusters):
    """Return the ratings of all other clusters."""
    kept = [i for i, one in enumerate(clusters) if one != cluster]
    return np.asarray(ratings)[:, kept]


def jackknife(statistic, ratings, clusters):
    """The variance by its definition: the statistic itself computed again without each cluster."""
    names = sorted(set(clusters))
    values = np.array([statistic(without(name, ratings, clusters)) for name in names])
    return float(((values - values.mean()) ** 2).sum()) * (len(names) - 1) / len(names)


def drawn(seed, num_prompts=12, per_prompt=3, categories=7):
    """Ratings of three people with gaps, alike within a prompt."""
    rng = np.random.default_rng(seed)
    prompt = np.repeat(np.arange(num_prompts), per_prompt)
    truth = np.clip(rng.integers(0, categories, num_prompts)[prompt] + rng.integers(-1, 2, len(prompt)), 0, None)
    ratings = np.clip(truth + rng.integers(-1, 2, (3, len(prompt))), 0, categories - 1).astype(float)
    ratings[rng.random(ratings.shape) < 0.15] = NAN
    return ratings, prompt.tolist()


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815)])
def test_alpha_is_krippendorffs_and_inside_its_interval(level, published):
    alpha = alpha_interval(WORKED, level, ITEMS)
    assert alpha.value == pytest.approx(published, abs=5e-4)
    assert -1 < alpha.low < alpha.value < alpha.high < 1
    assert (alpha.n, alpha.n_clusters) == (11, 11)  # the last item has one rating


def test_ac1_is_that_of_gwets_table():
    # Gwet's published analysis of this table: P = .8182, P_e = .1903, AC1 = .77544.
    ac1 = ac1_interval(WORKED, ITEMS, (1, 2, 3, 4, 5))
    assert ac1.value == pytest.approx(0.77544, abs=1e-5)
    assert ac1.n == 11


def test_ac1_of_a_rare_flag_stays_near_agreement_where_kappa_falls():
    # 100 completions, each raises it once and never together: P = .98, kappa = (.98 - .9802) / .0198 < 0;
    # AC1: P_e = 2 * .01 * .99 = .0198, (.98 - .0198) / .9802 = .97960.
    table = np.zeros((2, 100))
    table[0, 0] = table[1, 1] = 1
    assert ac1_interval(table, range(100)).value == pytest.approx((0.98 - 0.0198) / (1 - 0.0198))
    assert kappa_interval(table, range(100)).value == pytest.approx((0.98 - 0.9802) / (1 - 0.9802))


@pytest.mark.parametrize("level", ["nominal", "ordinal"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_spread_of_alpha_is_that_of_leaving_out_each_prompt(level, seed):
    ratings, prompts = drawn(seed)
    alpha = alpha_interval(ratings, level, prompts)
    assert alpha.value == pytest.approx(krippendorff_alpha(ratings, level))
    variance = jackknife(lambda table: krippendorff_alpha(table, level), ratings, prompts)
    check_wilson(alpha, variance, len(set(prompts)))


def test_the_spread_of_kappa_is_that_of_leaving_out_each_prompt():
    ratings, prompts = drawn(3, categories=3)
    ratings = np.nan_to_num(ratings, nan=1.0)
    kappa = kappa_interval(ratings, prompts)
    assert kappa.value == pytest.approx(fleiss_kappa(ratings))
    check_wilson(kappa, jackknife(fleiss_kappa, ratings, prompts), len(set(prompts)))


def check_wilson(interval, variance, num_clusters):
    """Both ends solve Wilson's equation (value - end)^2 = z^2 end (1 - end) / n on the scale from 0 to 1."""
    from scipy.stats import t

    p = (interval.value + 1) / 2
    size = p * (1 - p) / (variance / 4)
    z = t.ppf(0.975, num_clusters - 1)
    for end in ((interval.low + 1) / 2, (interval.high + 1) / 2):
        assert (p - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / size)


def test_the_interval_of_alpha_holds_the_truth_about_as_often_as_it_says():
    # Flags of two people who each err in a tenth of the cases. The truth is the mean of alpha over many prompts.
    def table(rng, num_prompts):
        flags = rng.random((num_prompts, 3)) < rng.choice([0.1, 0.8], num_prompts)[:, None]
        return ((rng.random((2, num_prompts * 3)) < 0.1) != flags.reshape(1, -1)).astype(float)

    rng = np.random.default_rng(7)
    truth = krippendorff_alpha(table(rng, 200_000), "nominal")
    prompts = np.repeat(np.arange(60), 3).tolist()
    intervals = [alpha_interval(table(rng, 60), "nominal", prompts) for _ in range(300)]
    held = np.mean([one.low <= truth <= one.high for one in intervals])
    assert 0.92 <= held <= 0.985  # 300 draws: standard error .013


def test_the_same_share_counts_pairs_of_ratings():
    # Items 1 1 2 and 3 3: one of three pairs, one of one.
    share = same_share([[1, 3], [1, 3], [2, NAN]], ["p", "q"])
    assert share == proportion([1, 0, 0, 1], ["p", "p", "p", "q"])


def test_one_prompt_alone_says_nothing_of_the_spread():
    alpha = alpha_interval([[1, 2, 3], [1, 2, 2]], "ordinal", ["p"] * 3)
    assert (alpha.low, alpha.high, alpha.n_clusters) == (-1, 1, 1)


def test_a_flag_raised_in_one_prompt_alone_has_an_alpha_but_no_bounds():
    alpha = alpha_interval([[1, 0, 0, 0], [1, 0, 0, 0]], "nominal", ["p", "q", "r", "s"])
    assert (alpha.value, alpha.low, alpha.high) == (1.0, -1, 1)


def test_ratings_outside_the_categories_and_lost_clusters_are_refused():
    with pytest.raises(ValueError, match=r"rating 2\.0 is none of"):
        ac1_interval([[0, 2], [1, 0]], ["p", "q"])
    with pytest.raises(ValueError, match="one cluster for each"):
        alpha_interval([[0, 1], [1, 0]], "nominal", ["p"])
    with pytest.raises(ValueError, match="two ratings"):
        ac1_interval([[0, NAN], [NAN, 1]], ["p", "q"])
