"""Verdicts on the paper's claims, from figures whose verdict is plain."""

import pytest

from instructloop.evals.claims import above, claims, headline, labels, tax_loss
from instructloop.evals.paper_results import paper_results
from instructloop.evals.report_schema import Bounds, checked

LEAST = {"title": "A round", "seed": 1, "simulated": False, "wall_seconds": 2.5}


def bounds(value: float, reach: float = 0.05) -> Bounds:
    return Bounds(value=value, low=value - reach, high=value + reach)


def judged(value: float, reach: float = 0.05) -> dict:
    return {"value": value, "low": value - reach, "high": value + reach, "n_prompts": 50, "n_judgements": 100}


def share(value: float, reach: float = 0.02) -> dict:
    return {"value": value, "low": value - reach, "high": value + reach, "n": 100}


def verdicts(**fields) -> dict[str, str]:
    return {claim.text: claim.verdict for claim in claims(checked({**LEAST, **fields}))}


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [(0.7, 0.5, "holds"), (0.55, 0.5, "open"), (0.5, 0.55, "open"), (0.5, 0.7, "fails"), (0.5, 0.5, "open")],
)
def test_only_intervals_apart_decide(one: float, other: float, verdict: str):
    assert above(bounds(one), bounds(other)) == verdict


def test_an_unbounded_interval_decides_nothing():
    assert above(Bounds(value=5.0, low=None, high=None), bounds(0.5)) == "open"


def test_the_ladder_fails_when_a_step_goes_down_and_is_open_when_steps_overlap():
    def ladder(*values: float) -> str:
        rates = dict(zip(("base", "base_prompted", "sft", "ppo_ptx"), map(judged, values), strict=True))
        return verdicts(win_rate_vs_sft=rates)["Base < Base, prompted < SFT < PPO-ptx in win rate"]

    assert ladder(0.1, 0.3, 0.5, 0.7) == "holds"
    assert ladder(0.1, 0.15, 0.5, 0.7) == "open"
    assert ladder(0.3, 0.1, 0.5, 0.7) == "fails"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.63, "PPO-ptx is preferred to the SFT baseline in 63% of comparisons"),
        (0.52, "No clear preference between PPO-ptx and the SFT baseline: 52% of comparisons"),
        (0.40, "PPO-ptx loses to the SFT baseline: preferred in only 40% of comparisons"),
    ],
)
def test_the_headline_says_what_the_interval_allows(value: float, words: str):
    report = checked({**LEAST, "win_rate_vs_sft": {"sft": judged(0.5), "ppo": judged(0.9), "ppo_ptx": judged(value)}})
    assert headline(report)[0] == words


def test_the_headline_names_a_judge_that_disagrees():
    rates = {"win_rate_vs_sft": {"ppo_ptx": judged(0.63)}, "gold_win_rate_vs_sft": {"ppo_ptx": judged(0.42)}}
    assert "The judge disagrees: 42% (37\u201347%)." in headline(checked({**LEAST, **rates}))[1]


def test_a_reward_model_no_better_than_a_coin_is_called_that():
    report = checked({**LEAST, "reward_model": {"accuracy_heldout": share(0.51)}})
    assert headline(report)[0] == "The reward model is not clearly better than a coin: 51% of held-out pairs"


def test_five_points_between_seen_and_unseen_labelers_are_the_limit():
    text = "The reward model generalises to labelers it never saw, within 5 points"

    def verdict(unseen: float) -> str:
        model = {"accuracy_seen_labelers": share(0.72), "accuracy_unseen_labelers": share(unseen)}
        return verdicts(reward_model=model)[text]

    assert (verdict(0.68), verdict(0.66)) == ("holds", "fails")


def test_agreement_is_held_against_the_papers_band_only_when_labelers_are_simulated():
    fields = {"agreement": {"train": share(0.70), "heldout": share(0.77)}, "paper": paper_results()}
    assert verdicts(**fields) == {}
    found = verdicts(**{**fields, "simulated": True})
    assert found["Training labelers agree with each other as the paper's did"] == "fails"  # .70 < .726 - .015
    assert found["Held-out labelers agree with each other as the paper's did"] == "holds"


def test_the_tax_is_relative_to_the_base_and_knows_which_way_is_better():
    report = checked(
        {
            **LEAST,
            "alignment_tax": {
                "cloze": {"base": share(0.8), "ppo": share(0.6), "ppo_ptx": share(0.76)},
                "loss": {"base": share(2.0), "ppo": share(2.5), "ppo_ptx": share(2.2)},
            },
            "alignment_tax_tasks": {"loss": {"title": "Loss", "metric": "nats", "is_higher_better": False}},
        }
    )
    # PPO: (.2 / .8 + .5 / 2) / 2 = .25; PPO-ptx: (.04 / .8 + .2 / 2) / 2 = .075, less than half of it
    assert tax_loss(report, "ppo", ["cloze", "loss"]) == pytest.approx(0.25)
    assert tax_loss(report, "ppo_ptx", ["cloze", "loss"]) == pytest.approx(0.075)
    found = {claim.text: claim for claim in claims(report)}
    assert found["PPO-ptx takes back at least half of the loss"].verdict == "holds"
    assert found["PPO without the pretraining mix loses what the base could do"].finding == "clear on cloze, Loss"


def test_a_policy_that_lost_nothing_has_nothing_to_take_back():
    tax = {"cloze": {"base": share(0.8), "ppo": share(0.81), "ppo_ptx": share(0.8)}}
    assert verdicts(alignment_tax=tax) == {"PPO without the pretraining mix loses what the base could do": "open"}


def test_half_of_the_rise_in_loss_on_text_is_asked_of_the_mix_and_of_each_leash_apart():
    losses = {"base": 0.8, "ppo": 0.9, "ppo_ptx": 0.86, "ppo_loose": 1.0, "ppo_ptx_loose": 0.88}
    report = checked({**LEAST, "held_out_loss": {"corpus": {name: share(loss) for name, loss in losses.items()}}})
    found = {claim.text: claim for claim in claims(report)}
    text = "PPO-ptx takes back at least half of the rise in loss on held-out text (corpus)"
    assert found[text].verdict == "fails"  # .06 of .10 is left
    assert found[text].finding == "above the base: PPO +0.100, PPO-ptx +0.060 nats a token"
    assert found[f"{text}, on a long leash"].verdict == "holds"  # .08 of .20


def test_overoptimisation_holds_only_when_gold_clearly_falls_as_proxy_rises():
    def drift(last_gold: float, last_proxy: float) -> str:
        points = [
            {
                "iteration": i,
                "kl": float(i),
                "proxy": proxy,
                "gold": gold,
                "gold_low": gold - 0.2,
                "gold_high": gold + 0.2,
            }
            for i, (proxy, gold) in enumerate([(0.0, 4.0), (1.0, 5.0), (last_proxy, last_gold)])
        ]
        (found,) = verdicts(overoptimisation={"ppo": points}).values()
        return found

    assert drift(4.0, 2.0) == "holds"
    assert drift(4.8, 2.0) == "open"  # within the intervals
    assert drift(4.0, 0.5) == "open"  # the proxy fell as well


def test_known_policies_come_first_unless_the_report_orders_them():
    rates = {name: judged(0.5) for name in ("mine", "ppo_ptx", "base")}
    assert list(labels(checked({**LEAST, "win_rate_vs_sft": rates}))) == ["base", "ppo_ptx", "mine"]
    ordered = checked({**LEAST, "win_rate_vs_sft": rates, "policies": {"mine": "Mine", "base": "GPT"}})
    assert labels(ordered) == {"mine": "Mine", "base": "GPT", "ppo_ptx": "PPO-ptx"}


def test_the_papers_results_fit_the_schema_and_its_printed_figures():
    found = checked({**LEAST, "paper": paper_results()}).paper
    assert (found["agreement.train"].low, found["agreement.train"].high) == pytest.approx((0.711, 0.741))
    assert (found["agreement.heldout"].low, found["agreement.heldout"].high) == pytest.approx((0.760, 0.786))
    assert found["reward_model.accuracy_seen_labelers"].value == 0.724
    assert found["reward_model.accuracy_unseen_labelers"].value == 0.696
    assert found["win_rate_vs_sft.sft"].value == 0.5
    # the ordering of Fig. 3: GPT-3 < prompted < SFT < PPO, PPO-ptx
    rates = [found[f"win_rate_vs_sft.{name}"].value for name in ("base", "base_prompted", "sft", "ppo", "ppo_ptx")]
    assert rates == sorted(rates)
    assert all(figure.source for figure in found.values())
