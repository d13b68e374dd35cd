"""Win rates, ratings and flags from frozen rankings, against hand calculations."""

import math

import numpy as np
import pytest

from instructloop.core.rankings import win_rate
from instructloop.evals.head_to_head import (
    Outcome,
    are_simulated,
    flag_prevalence,
    gold_means,
    gold_outcomes,
    length_controlled_win_rates,
    likert,
    outcomes,
    win_rates,
    win_rates_by_category,
)


def row(prompt: str, labeler: str, tiers: list[list[str]], texts: dict[str, str] | None = None, **fields) -> dict:
    """One frozen ranking whose completion ids are `prompt:policy` or `prompt:policy:copy`."""
    names = [name for tier in tiers for name in tier]
    return {
        "id": f"{prompt}-{labeler}",
        "prompt_id": prompt,
        "prompt": f"text of {prompt}",
        "labeler": labeler,
        "category": fields.pop("category", None),
        "completions": [
            {"id": f"{prompt}:{name}", "text": (texts or {}).get(name, name), "policy": name.split(":")[0]}
            for name in names
        ],
        "tiers": [[f"{prompt}:{name}" for name in tier] for tier in tiers],
        "ratings": {f"{prompt}:{name}": rating for name, rating in fields.pop("ratings", {}).items()},
        "flags": {f"{prompt}:{name}": answers for name, answers in fields.pop("flags", {}).items()},
    }


ROWS = [
    row("a", "one", [["ppo"], ["sft", "base"]]),  # ppo beats sft, base ties with it
    row("a", "two", [["sft"], ["ppo"], ["base"]]),
    row("b", "one", [["ppo", "sft"], ["base"]]),
    row("c", "two", [["ppo"], ["sft"], ["base"]]),
]


def test_a_tie_with_the_baseline_is_half_a_win():
    rates = win_rates(outcomes(ROWS, baseline="sft"), baseline="sft")
    assert rates["ppo"].value == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert rates["base"].value == pytest.approx((0.5 + 0 + 0 + 0) / 4)
    assert (rates["ppo"].n, rates["ppo"].n_clusters) == (4, 3)


def test_the_interval_is_clustered_by_prompt():
    rates = win_rates(outcomes(ROWS, baseline="sft"), baseline="sft")
    assert rates["ppo"] == win_rate([1, 0, 0.5, 1], ["a", "a", "b", "c"])


def test_the_baseline_scores_one_half_by_definition():
    own = win_rates(outcomes(ROWS, baseline="sft"), baseline="sft")["sft"]
    assert (own.value, own.low, own.high, own.n, own.n_clusters) == (0.5, 0.5, 0.5, 8, 3)


def test_every_completion_of_a_policy_meets_every_completion_of_the_baseline():
    met = list(outcomes([row("a", "one", [["ppo:1"], ["sft:1"], ["ppo:2", "sft:2"]])], baseline="sft"))
    # ppo:1 beats both; ppo:2 loses to sft:1 and ties with sft:2
    assert sorted(one.value for one in met) == [0.0, 0.5, 1.0, 1.0]


def test_rankings_without_the_baseline_are_refused():
    with pytest.raises(ValueError, match="baseline 'sft'"):
        win_rates(outcomes([row("a", "one", [["ppo"], ["base"]])], baseline="sft"), baseline="sft")


def test_each_category_has_its_own_rates():
    rows = [
        row("a", "one", [["ppo"], ["sft"]], category="chat"),
        row("b", "one", [["sft"], ["ppo"]], category="rewrite"),
        row("c", "one", [["sft"], ["ppo"]]),
    ]
    rates = win_rates_by_category(outcomes(rows, baseline="sft"), baseline="sft")
    assert {category: by_policy["ppo"].value for category, by_policy in rates.items()} == {
        "chat": 1.0,
        "none": 0.0,
        "rewrite": 0.0,
    }


def test_the_judge_sees_a_prompt_once_however_many_labelers_ranked_it():
    calls: list[tuple[str, str]] = []

    def score(prompt: str, completion: str) -> float:
        calls.append((prompt, completion))
        return {"ppo": 2.0, "sft": 1.9, "base": 0.0}[completion]

    met = list(gold_outcomes(ROWS, score, baseline="sft", tie_margin=0.2))
    assert len(calls) == len(set(calls)) == 9
    assert {(one.policy, one.value) for one in met} == {("ppo", 0.5), ("base", 0.0)}
    assert gold_means(ROWS, score)["ppo"].value == 2.0
    assert gold_means(ROWS, score)["ppo"].n == 3


def test_a_gap_above_the_tie_margin_decides():
    met = list(gold_outcomes(ROWS[:1], lambda _, text: {"ppo": 2, "sft": 1, "base": 1}[text], baseline="sft"))
    assert {(one.policy, one.value) for one in met} == {("ppo", 1.0), ("base", 0.5)}


def test_unanswered_ratings_are_left_out_of_the_likert_mean():
    rows = [
        row("a", "one", [["ppo"], ["sft"]], ratings={"ppo": 7, "sft": 4}),
        row("b", "one", [["ppo"], ["sft"]], ratings={"ppo": 4, "sft": None}),
    ]
    means = likert(rows)
    assert (means["ppo"].value, means["ppo"].n) == (5.5, 2)
    assert (means["sft"].value, means["sft"].n) == (4.0, 1)
    assert 1.0 <= means["sft"].low < means["sft"].high <= 7.0


def test_unanswered_flags_are_left_out_and_unasked_flags_have_no_entry():
    rows = [
        row("a", "one", [["ppo"], ["sft"]], flags={"ppo": {"hallucination": True}, "sft": {"hallucination": None}}),
        row("b", "one", [["ppo"], ["sft"]], flags={"ppo": {"hallucination": False, "expresses_opinion": None}}),
    ]
    prevalence = flag_prevalence(rows)
    assert set(prevalence) == {"hallucination"}
    assert {policy: (share.value, share.n) for policy, share in prevalence["hallucination"].items()} == {
        "ppo": (0.5, 2)
    }


def test_length_control_takes_away_what_length_alone_explains():
    # outcome = .5 + .25 * log ratio / log 3, exactly linear: at equal length .5, though the raw rate is .75
    group = [
        Outcome(str(i), "ppo", value, ratio * math.log(3), None) for i, (value, ratio) in enumerate([(0.5, 0), (1, 2)])
    ]
    controlled = length_controlled_win_rates(group)["ppo"]
    assert controlled.value == pytest.approx(0.5)


def test_length_control_is_least_squares_with_a_clustered_intercept():
    numbers = np.random.default_rng(1)
    ratio, value = numbers.normal(0.3, 0.5, 60), numbers.choice([0.0, 0.5, 1.0], 60, p=[0.3, 0.1, 0.6])
    clusters = np.repeat(np.arange(20), 3)
    found = length_controlled_win_rates(
        Outcome(str(c), "ppo", float(v), float(r), None) for c, v, r in zip(clusters, value, ratio, strict=True)
    )["ppo"]
    # the sandwich estimator, in matrix form: (X'X)^-1 (sum of g g') (X'X)^-1 * G / (G - 1)
    design = np.stack([np.ones(60), ratio], axis=1)
    bread = np.linalg.inv(design.T @ design)
    intercept, _ = bread @ design.T @ value
    residual = value - design @ (bread @ design.T @ value)
    scores = np.stack([(design * residual[:, None])[clusters == c].sum(0) for c in range(20)])
    error = math.sqrt((bread @ scores.T @ scores @ bread)[0, 0] * 20 / 19)
    assert found.value == pytest.approx(intercept)
    assert found.high - found.low == pytest.approx(2 * 2.093024 * error, rel=1e-5)  # t with 19 degrees, 97.5 %


def test_a_constant_length_ratio_gives_no_controlled_rate():
    assert length_controlled_win_rates([Outcome("a", "ppo", 1.0, 0.3, None), Outcome("b", "ppo", 0.0, 0.3, None)]) == {}


def test_one_simulated_judgement_makes_the_whole_simulated():
    people = [{"origin": "person"}, {"origin": "import:mine"}]
    assert not are_simulated(people)
    assert are_simulated([*people, {"origin": "simulated"}])
    assert not are_simulated([])
