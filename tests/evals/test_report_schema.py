"""What report.json may hold, and how a wrong one is refused."""

import json

import pytest

from instructloop.core.rankings import mean_interval, win_rate
from instructloop.evals.report_schema import Report, checked, estimate, judged

LEAST = {"title": "A round", "seed": 1, "simulated": False, "wall_seconds": 2.5}


def test_four_fields_are_enough():
    report = checked(LEAST)
    assert report.win_rate_vs_sft is None
    assert report.samples == []


def test_a_misspelt_field_is_named():
    with pytest.raises(ValueError, match=r"win_rates: Extra inputs are not permitted"):
        checked({**LEAST, "win_rates": {}})


def test_a_wrong_value_is_named_with_its_path_and_itself():
    wrong = {"value": 0.7, "low": 0.6, "high": 0.8, "n_prompts": 0, "n_judgements": 9}
    with pytest.raises(ValueError, match=r"likert\.ppo\.n_prompts: .*greater than or equal to 1 \(got '0'\)"):
        checked({**LEAST, "likert": {"ppo": wrong}})


def test_an_interval_must_hold_its_value():
    outside = {"value": 0.9, "low": 0.6, "high": 0.8, "n": 5}
    with pytest.raises(ValueError, match=r"agreement\.train: .*0.9 must lie between low 0.6 and high 0.8"):
        checked({**LEAST, "agreement": {"train": outside}})


def test_nan_is_refused_since_json_has_none():
    with pytest.raises(ValueError, match=r"wall_seconds: .*finite"):
        checked({**LEAST, "wall_seconds": float("nan")})


def test_intervals_become_estimates_and_survive_json():
    rate = judged(win_rate([1, 0.5, 0], ["a", "a", "b"]))
    assert (rate["n_prompts"], rate["n_judgements"], rate["value"]) == (2, 3, 0.5)
    unbounded = estimate(mean_interval([2.0, 2.0], ["a", "a"]))
    assert unbounded == {"value": 2.0, "low": None, "high": None, "n": 2, "n_clusters": 1}
    report = {**LEAST, "win_rate_vs_sft": {"ppo": rate}, "held_out_loss": {"news": {"sft": unbounded}}}
    again = json.loads(checked(report).model_dump_json())
    assert checked(again) == checked(report)


def test_undefined_points_of_a_curve_are_left_out():
    curves = {"loss": {"sft": [[1, 2.0], [2, None], [3, float("inf")], [4, 1.0]]}}
    assert checked({**LEAST, "curves": curves}).curves == {"loss": {"sft": [(1, 2.0), (4, 1.0)]}}


def test_a_lineage_must_hold_every_ancestor_it_names():
    lineage = {"roots": {"ppo": "r1"}, "runs": {"r1": {"name": "ppo", "stage": "s7_ppo", "parents": {"reward": "r0"}}}}
    with pytest.raises(ValueError, match=r"lineage: .*does not list: r0"):
        checked({**LEAST, "lineage": lineage})


def test_a_described_task_must_have_figures():
    with pytest.raises(ValueError, match="tasks without figures: cloze"):
        checked({**LEAST, "alignment_tax_tasks": {"cloze": {"title": "Cloze", "metric": "accuracy"}}})


def test_every_field_is_documented():
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    missing = [name for name in Report.model_fields if f"`{name}`" not in text]
    assert missing == []
