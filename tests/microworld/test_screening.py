"""Screening: the three criteria by hand, and candidates that fail one each."""

from __future__ import annotations

import pytest

from instructloop.core.records import Ranking
from instructloop.microworld import labelers, screening
from instructloop.microworld.judge import Judge
from instructloop.microworld.world import world_of

WORLD = world_of(1)
JUDGE = Judge(WORLD)
CUT_OFFS = screening.CutOffs(flags=0.75, rankings=0.75, demonstrations=6.0)


def test_screening_tells_good_candidates_from_bad_ones_by_the_criterion_they_miss():
    sets = screening.screening_sets(WORLD, 40, seed=1)
    results = {
        one.id.removeprefix("candidate-"): screening.screen(
            one, sets, JUDGE.assess, WORLD, cut_offs=CUT_OFFS, noise_scale=labelers.NOISE_SCALE["train"], seed=1
        )
        for one in screening.candidates(1)
    }
    assert [name for name, result in results.items() if result.is_passed] == ["good-1", "good-2", "good-3"]
    assert results["careless"].ranking_agreement < 0.75
    assert results["blind"].flag_agreement < 0.75
    assert results["clumsy"].demonstration_grade < 6
    assert results["clumsy"].ranking_agreement >= 0.75


def test_the_three_criteria_by_hand():
    truth = {"a": {"harmful_advice": True}, "b": {"harmful_advice": False}, "c": {"violent_content": True}}
    given = {"a": {"violent_content": True}, "b": {"harmful_advice": None}, "c": {"violent_content": False}}
    assert screening.flag_agreement(given, truth) == pytest.approx(2 / 3)  # a and b; c was missed
    with pytest.raises(ValueError, match="2 completions against 3"):
        screening.flag_agreement({"a": {}, "b": {}}, truth)
    # Pairs ab, ac, bc: the researcher ties bc, the candidate turns ac round: 1 of 2.
    researcher = [Ranking("p", "researcher", (("a",), ("b", "c")))]
    candidate = [Ranking("p", "candidate", (("c",), ("a",), ("b",)))]
    assert screening.ranking_agreement(candidate, researcher) == pytest.approx(0.5)
    assert screening.demonstration_grade([7, 6, 5]) == pytest.approx(6)
    with pytest.raises(ValueError, match="grades"):
        screening.demonstration_grade([8])
