"""Agreement of simulated labelers: in the paper's bands as frozen, and at any target by calibration."""

from __future__ import annotations

import statistics

import pytest

from instructloop.microworld import calibration, labelers, made_up
from instructloop.microworld.judge import Judge
from instructloop.microworld.world import world_of

WORLD = world_of(1)
JUDGE = Judge(WORLD)
TRAIN = [one for one in labelers.team(1) if one.cohort == "train"]


@pytest.mark.parametrize(
    ("cohort", "purpose", "low", "high"),
    [("train", "train", 0.711, 0.741), ("heldout", "evaluation", 0.760, 0.786)],
    ids=["training labelers: 72.6 +- 1.5 %", "held-out labelers: 77.3 +- 1.3 %"],
)
def test_agreement_lies_in_the_papers_band_on_fresh_completions(cohort, purpose, low, high):
    # Worlds, teams and completions that the frozen noise scales were not calibrated on; ties are left out.
    found: list[float] = []
    for seed in (101, 102, 103):
        world = world_of(seed)
        team = [one for one in labelers.team(seed) if one.cohort == cohort]
        sets = made_up.synthetic_sets(world, 500, seed, purpose)
        panel = calibration.Panel(team, sets, Judge(world).assess, purpose=purpose, seed=seed, num_per_set=3)
        found.append(panel.agreement(labelers.NOISE_SCALE[cohort]).value)
    assert low <= statistics.fmean(found) <= high, found


def test_agreement_falls_with_noise_and_calibration_meets_its_target():
    sets = made_up.synthetic_sets(WORLD, 150, seed=5)
    panel = calibration.Panel(TRAIN, sets, JUDGE.assess, purpose="train", seed=5)
    values = [panel.agreement(scale).value for scale in (0.0, 0.3, 1.0, 2.0)]
    assert values == sorted(values, reverse=True)
    assert panel.agreement(panel.calibrate(0.7)).value == pytest.approx(0.7, abs=0.002)
    assert calibration.agreement_table(panel, [0.1, 0.3]).count("agreement 0.") == 2
    with pytest.raises(ValueError, match="out of reach"):
        panel.calibrate(0.4)


def test_a_panel_of_one_cannot_be_measured():
    with pytest.raises(ValueError, match="1 labelers"):
        calibration.Panel(TRAIN[:1], [], JUDGE.assess, purpose="train", seed=1)
