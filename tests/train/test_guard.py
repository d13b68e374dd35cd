"""The guard against over-optimisation: its rule on figures made by hand, and what it sees of a policy."""

from dataclasses import replace

import pytest
import torch

from instructloop.models.sampler import sample
from instructloop.models.scalar import ScalarModel
from instructloop.train.ema import Ema
from instructloop.train.finite import NotFinite
from instructloop.train.guard import Action, Check, Guard, Watch, over_optimisation, repeated_fraction
from tests.train.small import PROMPTS, SETTINGS, actors


def seen(iteration: int, scores: list[float], train_score: float) -> Check:
    train_scores = [train_score] * len(scores)
    return Check(iteration, scores, train_scores, kl=3.21, length=9.0, repetition=0.25, eos_fraction=0.5)


def guard(action: Action = "warn", *, patience: int = 1, every: int = 1, heard: list | None = None, seed: int = 5):
    found = actors(width=16)
    heldout, _ = ScalarModel.from_lm(found.policy, found.text, seed=9)
    return Guard(
        found,
        heldout,
        Ema(found.policy, 0.5),
        PROMPTS,
        SETTINGS,
        watch=Watch(every, 7, patience, action),
        seed=seed,
        on_warning=[].append if heard is None else heard.append,
    )


BEST = seen(10, [4.0, 5.0, 6.0, 5.0], 1.0)
FALLEN = [3.0, 3.0, 3.0, 3.0]
"""Changes -1, -2, -3, -2: mean -2, standard deviation sqrt(2/3), error sqrt(2/3)/2 = .4082; Student's 97.5 % quantile
of 3 degrees is 3.1824, so the interval is -2 +- 1.2993."""


def test_a_clear_fall_of_the_held_out_score_under_a_risen_trained_score_is_over_optimisation():
    change = over_optimisation(BEST, seen(20, FALLEN, 1.1))
    assert change is not None
    assert (change.value, change.low, change.high) == pytest.approx((-2.0, -3.2993, -0.7007), abs=1e-4)


def test_a_fall_is_none_where_the_trained_score_did_not_rise():
    assert over_optimisation(BEST, seen(20, FALLEN, 1.0)) is None
    assert over_optimisation(BEST, seen(20, FALLEN, 0.9)) is None


def test_a_fall_within_its_interval_is_none():
    noisy = [3.0, 2.0, 7.0, 4.0]  # changes -1, -3, 1, -1: mean -1, error .8165, upper end -1 + 3.1824 * .8165 = 1.6
    assert over_optimisation(BEST, seen(20, noisy, 2.0)) is None


def test_scores_are_compared_prompt_by_prompt():
    """Prompts that differ by far more than the policies do not hide a fall that all of them share."""
    best = seen(1, [-50.0, 0.0, 50.0, 100.0], 1.0)
    change = over_optimisation(best, seen(2, [-50.9, -1.0, 48.9, 99.0], 2.0))  # -.9, -1, -1.1, -1
    assert change is not None
    assert change.value == pytest.approx(-1.0)


def test_it_waits_for_its_patience_and_warns_once_for_each_best():
    heard: list[str] = []
    watcher = guard(patience=2, heard=heard)
    watcher.judge(BEST)
    watcher.judge(seen(20, FALLEN, 1.5))
    assert heard == []
    watcher.judge(seen(30, FALLEN, 1.5))
    assert len(heard) == 1
    watcher.judge(seen(40, FALLEN, 1.6))
    assert len(heard) == 1
    watcher.judge(seen(50, [9.0, 9.0, 9.0, 9.1], 1.7))  # a new best
    watcher.judge(seen(60, FALLEN, 1.8))
    watcher.judge(seen(70, FALLEN, 1.8))
    assert len(heard) == 2
    assert watcher.warnings == heard
    assert watcher.best.iteration == 50


def test_the_sentence_names_iteration_kl_and_figures():
    heard: list[str] = []
    watcher = guard(heard=heard)
    watcher.judge(BEST)
    watcher.judge(seen(20, FALLEN, 1.5))
    assert heard == [
        "over-optimisation at iteration 20, 3.2 nats from the reference: since iteration 10 the score of the held-out "
        "reward model fell from 5.00 to 3.00 (change -2.00, interval -3.30 to -0.70) while the score trained against "
        "rose from 1.00 to 1.50; completions have 9.0 tokens, 25% of their 3-grams are repeated, 50% end by themselves;"
        " this is a warning only."
    ]


@pytest.mark.parametrize("action", ["warn", "stop", "best"])
def test_only_the_action_best_chooses_an_earlier_policy_and_only_once_it_acted(action: Action):
    watcher = guard(action)
    watcher.judge(BEST)
    kept = {name: weight.clone() for name, weight in watcher.best_weights.items()}
    assert bool(kept) == (action == "best")
    assert watcher.chosen is None
    for average in watcher.ema.averages:
        average.add_(1.0)
    watcher.judge(seen(20, FALLEN, 1.5))
    assert watcher.chosen == (10 if action == "best" else None)
    assert all(torch.equal(kept[name], weight) for name, weight in watcher.best_weights.items())


def test_its_state_goes_through_a_checkpoint():
    first, second = guard("best", patience=2), guard("best", patience=2)
    for watcher in (first, second):
        watcher.judge(BEST)
    first.judge(seen(20, FALLEN, 1.5))
    again = guard("best", patience=2)
    again.load_state_dict(first.state_dict())
    again.judge(seen(30, FALLEN, 1.5))
    assert len(again.warnings) == 1  # the second check without a new best
    assert again.chosen == 10
    assert again.best_weights.keys() == second.best_weights.keys()
    assert all(torch.equal(weight, second.best_weights[name]) for name, weight in again.best_weights.items())


def test_checks_come_at_every_so_many_iterations_and_at_the_last():
    watcher = guard(every=3)
    assert [iteration for iteration in range(1, 8) if watcher.after_iteration(iteration)] == [3, 6, 7]


def test_a_check_scores_the_averaged_policy_and_leaves_weights_and_random_numbers_alone():
    watcher = guard()
    policy = watcher.actors.policy
    average = [weight.detach().clone() for weight in policy.parameters()]
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(0.3)  # the live policy is another one, the average still the reference
    live = [weight.detach().clone() for weight in policy.parameters()]
    random = torch.random.get_rng_state()
    found = watcher.after_iteration(1)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), live, strict=True))
    assert found["guard/kl"] == pytest.approx(0.0, abs=1e-5)
    watcher.ema.averages = average
    assert {**watcher.after_iteration(2), "time/guard": 0} == {**found, "time/guard": 0}  # same prompts, same numbers
    other = guard(seed=6).after_iteration(1)
    assert other["guard/score"] != found["guard/score"]


def test_what_a_check_reports_is_what_its_completions_are():
    watcher = guard()
    now = watcher._look(1)
    written = sample(
        watcher.actors.policy,
        watcher.actors.text,
        PROMPTS,
        max_new_tokens=SETTINGS.max_new_tokens,
        temperature=SETTINGS.temperature,
        seeds=watcher.seeds,
    )
    for row in range(len(PROMPTS)):
        ids = written.tokens_BT[row][written.attention_BT[row]][None]
        for model, scores in ((watcher.heldout, now.scores), (watcher.actors.reward, now.train_scores)):
            alone = model.score(ids, torch.ones_like(ids, dtype=torch.bool)).item()
            assert scores[row] == pytest.approx(alone, abs=1e-4)
    assert now.length == pytest.approx(written.mask_BC.sum().item() / len(PROMPTS))
    assert now.eos_fraction == pytest.approx(written.finished_B.float().mean().item())


def test_a_held_out_score_that_is_not_finite_is_named():
    watcher = guard()
    watcher.heldout.bias.data.fill_(torch.nan)
    with pytest.raises(NotFinite, match=r"score_B \(held-out reward model\).*check after iteration 2"):
        watcher.after_iteration(2)


def test_repetition_counts_the_3_grams_that_stood_before():
    # 1 2 3 1 2 3 1: five 3-grams, 123 231 312 123 231, two of them a second time
    assert repeated_fraction([[1, 2, 3, 1, 2, 3, 1]]) == pytest.approx(2 / 5)
    # beside it 7 7 7 7: two, one of them again; and another completion's 1 2 3 is no repetition
    assert repeated_fraction([[1, 2, 3, 1, 2, 3, 1], [7, 7, 7, 7], [1, 2, 3], [4, 5]]) == pytest.approx(3 / 8)
    assert repeated_fraction([[1, 2], []]) == 0.0


def test_a_longer_budget_of_forward_tokens_changes_no_check():
    watcher = guard()
    whole = watcher._look(1)
    watcher.rules = replace(SETTINGS, forward_tokens=1)
    assert watcher._look(1).scores == pytest.approx(whole.scores, abs=1e-4)
