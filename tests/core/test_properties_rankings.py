"""For any ranking: it and its comparisons say the same, whatever completions, labelers and policies are called."""

import math
from collections import Counter
from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from instructloop.core.agreement import pairwise_agreement
from instructloop.core.batches import pair_rows
from instructloop.core.rankings import bradley_terry, comparisons, num_comparisons
from instructloop.core.records import Ranking

Tiers = list[list[int]]


@st.composite
def rankings(draw, num_completions: int | None = None) -> Tiers:
    """Draw 1 to 9 completions (or so many), by number, and cut a random order of them into tiers."""
    items = draw(st.permutations(range(num_completions or draw(st.integers(1, 9)))))
    cuts = draw(st.lists(st.booleans(), min_size=len(items) - 1, max_size=len(items) - 1))
    tiers = [[items[0]]]
    for item, is_new in zip(items[1:], cuts, strict=True):
        if is_new:
            tiers.append([item])
        else:
            tiers[-1].append(item)
    return tiers


PAIRS_OF_RANKINGS = st.integers(2, 6).flatmap(lambda number: st.tuples(rankings(number), rankings(number)))


@settings(deadline=None)
@given(rankings())
def test_there_are_as_many_comparisons_as_pairs_across_tiers(tiers: Tiers):
    pairs = list(comparisons(tiers))
    across = math.comb(sum(map(len, tiers)), 2) - sum(math.comb(len(tier), 2) for tier in tiers)
    assert len(pairs) == len(set(pairs)) == num_comparisons(tiers) == across


@settings(deadline=None)
@given(rankings())
def test_comparisons_are_a_strict_order(tiers: Tiers):
    better = set(comparisons(tiers))
    assert not any((loser, winner) in better for winner, loser in better)
    assert all((first, last) in better for (first, a), (b, last) in product(better, better) if a == b)


@settings(deadline=None)
@given(rankings())
def test_a_ranking_can_be_read_back_from_its_comparisons(tiers: Tiers):
    num_better = Counter(loser for _, loser in comparisons(tiers))
    items = [item for tier in tiers for item in tier]
    levels = sorted({num_better[item] for item in items})
    assert [{item for item in items if num_better[item] == level} for level in levels] == [set(tier) for tier in tiers]


@settings(deadline=None)
@given(rankings())
def test_turning_a_ranking_round_turns_every_comparison_round(tiers: Tiers):
    assert set(comparisons(tiers[::-1])) == {(loser, winner) for winner, loser in comparisons(tiers)}


@settings(deadline=None)
@given(rankings(), st.randoms(use_true_random=False))
def test_names_and_the_order_within_a_tier_mean_nothing(tiers: Tiers, random):
    names = [f"completion {i}" for i in range(9)]
    random.shuffle(names)
    renamed = [random.sample([names[item] for item in tier], len(tier)) for tier in tiers]
    assert set(comparisons(renamed)) == {(names[winner], names[loser]) for winner, loser in comparisons(tiers)}


@settings(deadline=None)
@given(st.lists(rankings(9), max_size=5))
def test_any_rankings_with_a_comparison_weigh_one_each_and_all_their_pairs_alike(several: list[Tiers]):
    winner_N, loser_N, weight_N = pair_rows(several)
    decided = [tiers for tiers in several if len(tiers) > 1]
    assert float(weight_N.sum()) == pytest.approx(len(decided), abs=1e-5)
    weights = iter(zip(winner_N.tolist(), loser_N.tolist(), weight_N.tolist(), strict=True))
    for tiers in decided:
        own = [next(weights) for _ in comparisons(tiers)]
        assert {(winner, loser) for winner, loser, _ in own} == set(comparisons(tiers))
        assert len({weight for *_, weight in own}) == 1


# --- agreement ----------------------------------------------------------------------------------------------------


def judged(tiers: Tiers, labeler: str, names: list[str] | None = None) -> Ranking:
    called = names or [str(i) for i in range(9)]
    return Ranking("p", labeler, tuple(tuple(called[item] for item in tier) for tier in tiers))


@settings(deadline=None)
@given(PAIRS_OF_RANKINGS)
def test_agreement_is_the_share_of_comparisons_that_two_labelers_have_in_common(two: tuple[Tiers, Tiers]):
    first, second = (set(comparisons(tiers)) for tiers in two)
    same, opposite = len(first & second), len(first & {(loser, winner) for winner, loser in second})
    num_pairs = math.comb(sum(map(len, two[0])), 2)
    one_sided = len(first) + len(second) - 2 * (same + opposite)
    tied_by_both = num_pairs - same - opposite - one_sided
    pair = [judged(two[0], "ann"), judged(two[1], "bob")]
    assert pairwise_agreement(pair, ties="strict").value == pytest.approx((same + tied_by_both) / num_pairs)
    half = (same + tied_by_both + one_sided / 2) / num_pairs
    assert pairwise_agreement(pair, ties="half").value == pytest.approx(half)
    assume(same + opposite)
    assert pairwise_agreement(pair, ties="drop").value == pytest.approx(same / (same + opposite))


@settings(deadline=None)
@given(PAIRS_OF_RANKINGS, st.permutations([f"c{i}" for i in range(9)]), st.sampled_from(["half", "strict"]))
def test_agreement_knows_neither_names_nor_who_came_first(two: tuple[Tiers, Tiers], names: list[str], ties):
    found = pairwise_agreement([judged(two[0], "ann"), judged(two[1], "bob")], ties=ties)
    assert pairwise_agreement([judged(two[1], "cid", names), judged(two[0], "ann", names)], ties=ties) == found


# --- Bradley-Terry ------------------------------------------------------------------------------------------------

COUNTS = st.lists(st.integers(1, 20), min_size=12, max_size=12)
"""How often each of four policies beat each other one."""


@settings(deadline=None, max_examples=40)
@given(COUNTS, st.permutations(["base", "sft", "ppo", "ppo-ptx"]))
def test_strengths_go_with_the_names_and_turn_round_with_the_wins(counts: list[int], names: list[str]):
    pairs = [(i, j) for i, j in product(range(4), repeat=2) if i != j]
    wins = dict(zip(pairs, counts, strict=True))
    strengths = bradley_terry({(str(i), str(j)): times for (i, j), times in wins.items()})
    renamed = bradley_terry({(names[i], names[j]): times for (i, j), times in wins.items()})
    turned = bradley_terry({(str(j), str(i)): times for (i, j), times in wins.items()})
    expected = [strengths[str(i)] for i in range(4)]
    assert [renamed[name] for name in names] == pytest.approx(expected, abs=1e-5)
    assert [-turned[str(i)] for i in range(4)] == pytest.approx(expected, abs=1e-5)
