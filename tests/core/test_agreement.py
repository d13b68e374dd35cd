"""Agreement: hand calculations for each tie rule, the worked examples of Krippendorff and Fleiss, another library."""

import math

import evalica
import numpy as np
import pandas as pd
import pytest

from instructloop.core.agreement import (
    agreement_between,
    agreement_by_labeler,
    fleiss_kappa,
    krippendorff_alpha,
    pairwise_agreement,
)
from instructloop.core.rankings import proportion
from instructloop.core.records import Ranking

NAN = math.nan


def ranking(prompt: str, labeler: str, order: str) -> Ranking:
    """Return the ranking written as `a>b=c`."""
    return Ranking(prompt, labeler, tuple(tuple(tier.split("=")) for tier in order.split(">")))


PAIR = [ranking("p", "ann", "a>b>c"), ranking("p", "bob", "a>b=c")]


@pytest.mark.parametrize(
    ("ties", "expected", "number"),
    [
        ("drop", 1.0, 2),  # a-b and a-c agree, b-c is left out
        ("half", (1 + 1 + 0.5) / 3, 3),
        ("strict", 2 / 3, 3),
    ],
)
def test_a_one_sided_tie_counts_as_its_rule_says(ties, expected: float, number: int):
    agreement = pairwise_agreement(PAIR, ties=ties)
    assert agreement.value == pytest.approx(expected)
    assert agreement.n == number


@pytest.mark.parametrize(("ties", "expected"), [("half", 1.0), ("strict", 1.0)])
def test_a_common_tie_is_an_agreement(ties, expected: float):
    both = [ranking("p", "ann", "a=b"), ranking("p", "bob", "a=b")]
    assert pairwise_agreement(both, ties=ties).value == expected
    with pytest.raises(ValueError, match="no agreement to measure"):
        pairwise_agreement(both, ties="drop")


def test_opposite_orders_never_agree_and_labels_of_tiers_do_not_matter():
    assert pairwise_agreement([ranking("p", "ann", "a>b>c"), ranking("p", "bob", "c>b>a")], ties="drop").value == 0.0


def test_three_labelers_make_three_meetings():
    # ann-bob agree on 3 of 3, ann-cid on 2 of 3 (b-c turned), bob-cid on 2 of 3.
    three = [ranking("p", "ann", "a>b>c"), ranking("p", "bob", "a>b>c"), ranking("p", "cid", "a>c>b")]
    agreement = pairwise_agreement(three, ties="strict")
    assert agreement.value == pytest.approx(7 / 9)
    assert (agreement.n, agreement.n_clusters) == (9, 1)


def test_prompts_are_the_clusters():
    rankings = [
        *(ranking("p", labeler, "a>b>c") for labeler in ("ann", "bob")),
        ranking("q", "ann", "x>y"),
        ranking("q", "cid", "y>x"),
        ranking("r", "ann", "u>v"),  # judged once: no meeting
    ]
    assert pairwise_agreement(rankings, ties="drop") == proportion([1, 1, 1, 0], ["p", "p", "p", "q"])


def test_only_completions_that_both_ranked_are_compared():
    rankings = [ranking("p", "ann", "a>b>c"), ranking("p", "bob", "c>b>d")]
    agreement = pairwise_agreement(rankings, ties="drop")
    assert (agreement.value, agreement.n) == (0.0, 1)


def test_nobody_agrees_with_himself():
    with pytest.raises(ValueError, match="no two labelers"):
        pairwise_agreement([ranking("p", "ann", "a>b"), ranking("p", "ann", "a>b")], ties="drop")


def test_agreement_between_cohorts_leaves_out_meetings_inside_a_cohort():
    train = [ranking("p", "ann", "a>b"), ranking("p", "bob", "b>a")]
    heldout = [ranking("p", "cid", "a>b"), ranking("q", "cid", "x>y")]
    between = agreement_between(train, heldout, ties="drop")
    assert (between.value, between.n) == (0.5, 2)  # cid agrees with ann, not with bob; ann and bob do not meet
    assert agreement_between(heldout, train, ties="drop") == between
    assert agreement_between(train, [*heldout, train[0]], ties="drop").n == 3  # ann meets bob, but not ann


def test_agreement_by_labeler_counts_a_meeting_for_both():
    rankings = [
        ranking("p", "ann", "a>b"),
        ranking("p", "bob", "a>b"),
        ranking("p", "cid", "b>a"),
        ranking("q", "dan", "x>y"),
    ]
    by_labeler = agreement_by_labeler(rankings, ties="drop")
    assert {name: agreement.value for name, agreement in by_labeler.items()} == {"ann": 0.5, "bob": 0.5, "cid": 0.0}


def test_a_labeler_who_ties_everything_has_no_agreement_where_ties_are_dropped():
    assert set(agreement_by_labeler([*PAIR, ranking("p", "cid", "a=b=c")], ties="drop")) == {"ann", "bob"}
    assert set(agreement_by_labeler([*PAIR, ranking("p", "cid", "a=b=c")], ties="half")) == {"ann", "bob", "cid"}


def test_simulated_labelers_who_err_independently_agree_as_often_as_theory_says():
    generator = np.random.default_rng(3)
    rankings = []
    for prompt in range(3000):
        for labeler in ("ann", "bob"):
            order = "a>b" if generator.random() < 0.8 else "b>a"
            rankings.append(ranking(str(prompt), labeler, order))
    agreement = pairwise_agreement(rankings, ties="drop")
    assert agreement.low < 0.8**2 + 0.2**2 < agreement.high  # .68
    assert agreement.high - agreement.low < 0.04


# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", example C: 4 observers, 12 units, missing data.
WORKED = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]


@pytest.mark.parametrize(
    ("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)]
)
def test_alpha_is_that_of_krippendorffs_worked_example(level, published: float):
    assert krippendorff_alpha(WORKED, level) == pytest.approx(published, abs=5e-4)


def test_alpha_is_1_in_full_agreement_and_about_0_by_chance():
    assert krippendorff_alpha([[1, 2, 3, 4], [1, 2, 3, 4]], "ordinal") == pytest.approx(1.0)
    ratings = np.random.default_rng(1).integers(1, 8, (3, 2000))
    assert abs(krippendorff_alpha(ratings, "ordinal")) < 0.05


def test_alpha_of_yes_no_flags_by_hand():
    # 2 of 10 flags differ: observed disagreement 2 / 10. The 20 values are 12 times no, 8 times yes: expected
    # disagreement 2 * 12 * 8 / (20 * 19). alpha = 1 - .2 / .505263 = .604167
    first = [0, 0, 0, 0, 0, 1, 1, 1, 0, 1]
    second = [0, 0, 0, 0, 0, 1, 1, 1, 1, 0]
    assert krippendorff_alpha([first, second], "nominal") == pytest.approx(0.604167, abs=1e-6)


@pytest.mark.parametrize(
    "ratings", [[[1, NAN], [NAN, 2]], [[3, 3], [3, 3]], [[1, 1, 2], [1, 1, NAN]], [[NAN, NAN], [NAN, NAN]]]
)
def test_alpha_without_two_different_paired_ratings_is_refused(ratings):
    with pytest.raises(ValueError, match="alpha needs"):
        krippendorff_alpha(ratings, "ordinal")


def test_alpha_wants_a_table():
    with pytest.raises(ValueError, match="labelers x items"):
        krippendorff_alpha([1, 2, 3], "ordinal")


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval", "ratio"])
def test_alpha_of_ratings_with_gaps_is_that_of_evalica(level):
    generator = np.random.default_rng(5)
    truth = generator.integers(1, 8, 40)
    ratings = np.clip(truth + generator.integers(-1, 2, (5, 40)), 1, 7).astype(float)
    ratings[generator.random(ratings.shape) < 0.4] = NAN
    expected = evalica.alpha(pd.DataFrame(ratings), level).alpha
    assert 0.1 < expected < 0.95
    assert krippendorff_alpha(ratings, level) == pytest.approx(expected, abs=1e-9)


# Fleiss 1971, "Measuring nominal scale agreement among many raters", table 1: 30 patients, 6 psychiatrists each; how
# many diagnosed depression, personality disorder, schizophrenia, neurosis, other.
DIAGNOSES = """
    00060 03003 01401 00006 03030 20400 00402 20310 20040 00006
    10050 11040 03300 10050 02031 00501 30012 51000 02040 10203
    00006 01050 02013 20040 10041 05010 40002 02040 10500 00006
"""
# The example of the article on Fleiss' kappa in Wikipedia: 10 items, 14 raters, 5 categories.
ITEMS = [
    (0, 0, 0, 0, 14),
    (0, 2, 6, 4, 2),
    (0, 0, 3, 5, 6),
    (0, 3, 9, 2, 0),
    (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0),
    (3, 2, 6, 3, 0),
    (2, 5, 3, 2, 2),
    (6, 5, 2, 1, 0),
    (0, 2, 2, 3, 7),
]


def from_counts(counts) -> np.ndarray:
    """Return ratings[labeler, item] with so many ratings of each category."""
    return np.array([np.repeat(range(len(row)), row) for row in counts]).T


def test_kappa_is_that_of_fleiss_worked_example():
    counts = np.array([[int(digit) for digit in patient] for patient in DIAGNOSES.split()])
    assert counts.shape == (30, 5)
    assert counts.sum(0) / 180 == pytest.approx([0.144, 0.144, 0.167, 0.306, 0.239], abs=5e-4)  # p_j as published
    assert fleiss_kappa(from_counts(counts)) == pytest.approx(0.430, abs=5e-4)


def test_kappa_is_that_of_a_second_published_example():
    assert fleiss_kappa(from_counts(ITEMS)) == pytest.approx(0.210, abs=5e-4)


def test_kappa_of_two_flags_by_hand_may_come_from_other_labelers_each_time():
    # Items yes yes | no no | yes no: P = 2/3; half of the six ratings are yes, P_e = 1/2; kappa = (2/3 - 1/2) / (1/2).
    assert fleiss_kappa([[1, NAN, 1], [1, 0, NAN], [NAN, 0, 0]]) == pytest.approx(1 / 3)
    assert fleiss_kappa([[1, 0], [1, 0], [1, 0]]) == pytest.approx(1.0)
    assert fleiss_kappa([[1, 0], [0, 1]]) == pytest.approx(-1.0)


def test_without_gaps_alpha_of_categories_is_kappa_corrected_for_the_number_of_ratings():
    # D_o is 1 - P in both; D_e draws pairs without putting back, so it is (1 - P_e) n / (n - 1) over n ratings in all.
    ratings = np.random.default_rng(2).integers(0, 3, (4, 15))
    ratings[1:, :8] = ratings[0, :8]
    assert 1 - krippendorff_alpha(ratings, "nominal") == pytest.approx((1 - fleiss_kappa(ratings)) * 59 / 60)


@pytest.mark.parametrize(
    ("ratings", "said"),
    [
        ([[1, 1], [2, NAN]], "as many ratings of every item"),
        ([[1, 2, 1]], "two at least"),
        ([[1, 1], [1, 1]], "all are the same"),
        ([[], []], "as many ratings"),
        ([1, 2], "labelers x items"),
    ],
)
def test_kappa_without_a_meaning_is_refused(ratings, said: str):
    with pytest.raises(ValueError, match=said):
        fleiss_kappa(ratings)
