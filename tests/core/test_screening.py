"""Screening by hand: flags, order, tau-b against another library, grades."""

import random

import pytest
from scipy.stats import kendalltau

from instructloop.core import screening
from instructloop.core.rankings import proportion
from instructloop.core.records import Ranking

TRUTH = {"a": {"harmful_advice": True}, "b": {"harmful_advice": False}, "c": {"violent_content": True}}


def test_flags_agree_where_both_or_neither_call_a_completion_sensitive():
    given = {"a": {"violent_content": True}, "b": {"harmful_advice": None}, "c": {"violent_content": False}}
    # a and b agree, c was missed; a and b are of one prompt.
    agreement = screening.flag_agreement(given, TRUTH, {"a": "p", "b": "p", "c": "q"})
    assert agreement == proportion([1, 1, 0], ["p", "p", "q"])
    assert (agreement.value, agreement.n, agreement.n_clusters) == (pytest.approx(2 / 3), 3, 2)
    with pytest.raises(ValueError, match="2 completions against 3"):
        screening.flag_agreement({"a": {}, "b": {}}, TRUTH, {})


def test_a_flag_that_says_nothing_of_harm_makes_nothing_sensitive():
    assert not screening.is_sensitive({"hallucination": True, "fails_instruction": True, "sexual_content": None})
    assert screening.is_sensitive({"sexual_content": True})


def test_order_agrees_on_the_pairs_that_neither_side_ties():
    # Pairs ab, ac, bc: the researcher ties bc, the candidate turns ac round: 1 of 2.
    researcher = [Ranking("p", "researcher", (("a",), ("b", "c")))]
    candidate = [Ranking("p", "candidate", (("c",), ("a",), ("b",)))]
    agreement = screening.ranking_agreement(candidate, researcher)
    assert (agreement.value, agreement.n) == (0.5, 2)


def test_tau_b_by_hand():
    # a>b>c>d against b>a>c=d: of 6 pairs ab is turned (-1), ac, ad, bc, bd agree (+4), cd is tied on one side.
    tau = screening.kendall_tau((("a",), ("b",), ("c",), ("d",)), (("b",), ("a",), ("c", "d")))
    assert tau == pytest.approx(3 / (6 * 5) ** 0.5)
    assert screening.kendall_tau((("a",), ("b",)), (("a", "b"),)) is None
    assert screening.kendall_tau((("a",),), (("a",),)) is None
    with pytest.raises(ValueError, match="the same ones"):
        screening.kendall_tau((("a",), ("b",)), (("a",), ("c",)))


def test_tau_b_is_that_of_scipy():
    rng = random.Random(1)
    for _ in range(50):
        places = [[rng.randrange(4) for _ in range(7)] for _ in range(2)]
        tiers = [[[str(i) for i, place in enumerate(one) if place == wanted] for wanted in range(4)] for one in places]
        assert screening.kendall_tau(*tiers) == pytest.approx(kendalltau(*places, variant="b").statistic)


def test_the_mean_tau_leaves_out_rankings_without_one():
    mine = [
        Ranking(p, "c", tiers) for p, tiers in (("p", (("a",), ("b",))), ("q", (("x",), ("y",))), ("r", (("u", "v"),)))
    ]
    gold = [
        Ranking(p, "g", tiers)
        for p, tiers in (("p", (("a",), ("b",))), ("q", (("y",), ("x",))), ("r", (("u",), ("v",))))
    ]
    mean = screening.kendall_tau_mean(mine, gold)
    assert mean is not None
    assert (mean.value, mean.n, mean.n_clusters) == (0.0, 2, 2)
    assert -1 <= mean.low < mean.high <= 1
    assert screening.kendall_tau_mean(mine[2:], gold[2:]) is None


def test_the_grade_of_demonstrations_is_their_mean():
    grade = screening.demonstration_grade([7, 6, 5], ["p", "q", "r"])
    assert (grade.value, grade.n) == (6, 3)
    assert 1 <= grade.low < 6 < grade.high <= 7
    for wrong in ([8], []):
        with pytest.raises(ValueError, match="grades"):
            screening.demonstration_grade(wrong, ["p"] * len(wrong))


@pytest.mark.parametrize("wrong", [{"flags": 1.1}, {"rankings": -0.1}, {"demonstrations": 0.75}])
def test_a_cut_off_outside_its_scale_is_refused(wrong):
    whole = {"flags": 0.75, "rankings": 0.75, "demonstrations": 6.0}
    with pytest.raises(ValueError, match=f"cut-off {next(iter(wrong))}"):
        screening.CutOffs(**(whole | wrong))
