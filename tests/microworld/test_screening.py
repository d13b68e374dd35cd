"""Screening: candidates that fail one criterion each."""

from __future__ import annotations

from instructloop.core.screening import PAPER_CUT_OFFS
from instructloop.microworld import labelers, screening
from instructloop.microworld.judge import Judge
from instructloop.microworld.world import world_of

WORLD = world_of(1)
JUDGE = Judge(WORLD)


def test_screening_tells_good_candidates_from_bad_ones_by_the_criterion_they_miss():
    sets = screening.screening_sets(WORLD, 40, seed=1)
    results = {
        one.id.removeprefix("candidate-"): screening.screen(
            one, sets, JUDGE.assess, WORLD, cut_offs=PAPER_CUT_OFFS, noise_scale=labelers.NOISE_SCALE["train"], seed=1
        )
        for one in screening.candidates(1)
    }
    assert [name for name, result in results.items() if result.is_passed] == ["good-1", "good-2", "good-3"]
    assert results["careless"].ranking_agreement < 0.75
    assert results["blind"].flag_agreement < 0.75
    assert results["clumsy"].demonstration_grade < 6
    assert results["clumsy"].ranking_agreement >= 0.75
