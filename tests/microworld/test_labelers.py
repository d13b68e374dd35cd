"""Simulated labelers: personal utility, forms, work on the store, calibration of agreement."""

from __future__ import annotations

import statistics
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from instructloop.core.agreement import pairwise_agreement
from instructloop.core.records import FLAGS, Cohort, Completion, Ranking
from instructloop.microworld import calibration, chance, labelers, made_up, opinions, prompts
from instructloop.microworld.judge import Assessment, Judge
from instructloop.microworld.world import world_of
from instructloop.store import Store, TaskItem, freeze_demonstrations, freeze_rankings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WORLD = world_of(1)
JUDGE = Judge(WORLD)
TEAM = labelers.team(1)
COHORT = {cohort: [one for one in TEAM if one.cohort == cohort] for cohort in ("train", "heldout")}


def assessment(**parts: float) -> Assessment:
    zero = dict.fromkeys((*opinions.PARTS, "utility"), 0.0) | parts
    return Assessment(**zero, quality=1, flags=dict.fromkeys(FLAGS, False))


def test_keyed_numbers_are_uniform_and_normal():
    draws = [chance.uniform("test", i) for i in range(4000)]
    # Standard errors: .2887 / sqrt(4000) = .0046 for the mean of a uniform, 1 / sqrt(4000) = .016 for a normal's.
    assert statistics.fmean(draws) == pytest.approx(0.5, abs=0.02)
    assert statistics.pstdev(draws) == pytest.approx(12**-0.5, abs=0.01)
    assert statistics.fmean(chance.normal("test", i) for i in range(4000)) == pytest.approx(0, abs=0.06)
    assert chance.uniform("a", 1) == chance.uniform("a", 1) != chance.uniform("a", 2)
    assert sorted(chance.shuffled(range(9), "x")) == list(range(9))


def test_a_completion_with_all_parts_is_worth_1_and_one_with_none_0():
    for one in TEAM:
        assert opinions.utility(one, assessment(**dict.fromkeys(opinions.PARTS, 1.0)), "train") == pytest.approx(1)
        assert opinions.utility(one, assessment(), "evaluation") == 0


def test_helpfulness_comes_first_in_training_and_last_of_the_three_in_evaluation():
    def mean(part: str, purpose: opinions.Purpose) -> float:
        return statistics.fmean(opinions.utility(one, assessment(**{part: 1.0}), purpose) for one in COHORT["train"])

    assert mean("helpful", "train") > max(mean("truthful", "train"), mean("harmless", "train"))
    assert mean("helpful", "evaluation") < min(mean("truthful", "evaluation"), mean("harmless", "evaluation"))


def test_what_is_within_the_margin_of_a_tiers_best_is_tied():
    # .90 and .86 are .04 apart; .83 is .07 below the tier's best, though only .03 below its worst.
    worth = {"a": 0.83, "b": 0.90, "c": 0.86, "d": 0.2}
    assert opinions.tiers(worth, 0.05) == (("b", "c"), ("a",), ("d",))
    assert opinions.tiers(worth, 0.0) == (("b",), ("c",), ("a",), ("d",))


def test_ratings_run_from_1_to_7_and_leniency_adds_points():
    assert [opinions.rating(worth, 0.0) for worth in (-0.5, 0.0, 0.5, 1.0, 1.5)] == [1, 1, 4, 7, 7]
    assert opinions.rating(0.5, 1.0) == 5


def test_opinions_do_not_depend_on_the_order_shown_and_equal_texts_tie():
    shown = made_up.synthetic_sets(WORLD, 1, seed=3)[0]
    texts = [*shown.completions, ("again", shown.completions[0][1])]
    one = TEAM[0]
    first, second = (
        opinions.opinion(one, shown.prompt, order, JUDGE.assess, noise_scale=0.3, purpose="train", seed=1)
        for order in (texts, texts[::-1])
    )
    assert first.tiers == second.tiers
    assert first.ratings == second.ratings
    assert first.flags == second.flags
    assert any({"again", shown.completions[0][0]} <= set(tier) for tier in first.tiers)


def test_ratings_never_contradict_the_ranking():
    for shown in made_up.synthetic_sets(WORLD, 20, seed=4):
        one = opinions.opinion(
            TEAM[1], shown.prompt, shown.completions, JUDGE.assess, noise_scale=0.5, purpose="train", seed=1
        )
        best = [max(one.ratings[name] for name in tier) for tier in one.tiers]
        worst = [min(one.ratings[name] for name in tier) for tier in one.tiers]
        assert all(upper >= lower for upper, lower in zip(worst, best[1:], strict=False))


def test_noise_is_in_proportion_to_the_spread_of_what_is_shown():
    one = TEAM[0]

    def error(best: float) -> float:
        def assess(prompt: str, text: str) -> Assessment:
            return assessment(**dict.fromkeys(opinions.PARTS, best if text == "a" else 0.0))

        shown = [("1", "a"), ("2", "b")]
        return opinions.leanings(one, ("p", "p"), shown, assess, purpose="train", seed=1)["1"][1]

    # Worth 1 and 0 have a standard deviation of .5, .5 and 0 one of .25; to both comes the least spread of .03.
    assert error(1.0) / error(0.5) == pytest.approx((0.5**2 + 0.03**2) ** 0.5 / (0.25**2 + 0.03**2) ** 0.5)
    assert error(0.0) / error(1.0) == pytest.approx(0.03 / (0.5**2 + 0.03**2) ** 0.5)


def test_flags_are_wrong_as_often_as_the_labeler_errs():
    one = replace(TEAM[0], flag_errors=(0.3, 0.1))
    truth = {"hallucination": True, "sexual_content": False, "satisfies_constraint": None}

    def assess(prompt: str, text: str) -> Assessment:
        return replace(assessment(), flags=truth)

    given = opinions.opinion(
        one, ("p", "p"), [(f"c{i}", f"{i}") for i in range(2000)], assess, noise_scale=0.1, purpose="train", seed=1
    ).flags.values()
    # Standard error of a share of 2,000: sqrt(.3 * .7 / 2000) = .010.
    assert statistics.fmean(flags["hallucination"] is False for flags in given) == pytest.approx(0.3, abs=0.03)
    assert statistics.fmean(flags["sexual_content"] is True for flags in given) == pytest.approx(0.1, abs=0.025)
    assert all(flags["satisfies_constraint"] is None for flags in given)


def test_a_team_is_the_same_for_a_seed_and_its_people_differ():
    assert labelers.team(1) == TEAM
    assert labelers.team(2) != TEAM
    assert (len(COHORT["train"]), len(COHORT["heldout"])) == (40, 15)
    assert len({one.noise for one in TEAM}) == len({one.taste["helpful"] for one in TEAM}) == len(TEAM)


def test_the_better_writers_are_those_of_greatest_skill():
    chosen = labelers.writers(COHORT["train"], 0.25)
    others = [one for one in COHORT["train"] if one not in chosen]
    assert len(chosen) == 10
    assert min(one.skill for one in chosen) >= max(one.skill for one in others)
    with pytest.raises(ValueError, match=r"share 0\.0"):
        labelers.writers(TEAM, 0.0)


# --------------------------------------------------------------------------------------------- work on the store


def open_comparisons(store: Store, num_tasks: int, *, overlap: int = 1, cohort: Cohort = "train") -> None:
    sets = made_up.synthetic_sets(WORLD, num_tasks, seed=6)
    known = {prompt.id: prompt for prompt in prompts.raw_prompts(WORLD)}
    store.add_prompts([replace(known[shown.prompt[0]], split="train") for shown in sets])
    items: list[TaskItem] = []
    for shown in sets:
        made = [
            Completion.make(
                shown.prompt[0], text, policy="made up", policy_run="none", index=i, sampling={}, finished=True
            )
            for i, (_, text) in enumerate(shown.completions)
        ]
        store.add_completions(made)
        items.append(TaskItem(shown.prompt[0], tuple(one.id for one in made)))
    store.open_tasks("ranking", "compare", items, overlap=overlap, cohort=cohort, now=NOW)


def frozen(store: Store, path: Path) -> bytes:
    freeze_rankings(store, ["ranking"], cohorts=frozenset(["train"]), path=path, purpose="train")
    return path.read_bytes()


def test_everything_is_labelled_by_many_and_the_same_seed_gives_the_same_bytes(tmp_path):
    files: list[bytes] = []
    for name in ("a", "b"):
        with Store.open(tmp_path / f"{name}.db") as store:
            open_comparisons(store, 45, overlap=2)
            shift = labelers.work(store, "ranking", TEAM, JUDGE, NOW, seed=1)
            progress = store.progress("ranking")
            assert progress.is_done
            assert shift.num_submitted == progress.num_submitted == 90
            assert shift.num_skipped == progress.num_skipped
            assert shift.ended > NOW
            assert len([labeler for labeler, number in progress.labelers if number]) >= 38
            files.append(frozen(store, tmp_path / f"{name}.jsonl"))
            assert labelers.work(store, "ranking", TEAM, JUDGE, NOW, seed=1).num_submitted == 0
    assert files[0] == files[1]


class Interrupted(Exception):
    pass


def test_work_that_was_interrupted_ends_with_the_same_rows(tmp_path, monkeypatch):
    with Store.open(tmp_path / "whole.db") as store:
        open_comparisons(store, 25, overlap=3)
        labelers.work(store, "ranking", TEAM, JUDGE, NOW, seed=1)
        whole = frozen(store, tmp_path / "whole.jsonl")
    with Store.open(tmp_path / "broken.db") as store:
        open_comparisons(store, 25, overlap=3)
        submit, calls = Store.submit_comparison, 0

        def fail_at_times(self, *args, **kwargs):
            nonlocal calls
            calls += 1
            if calls % 20 == 0:  # a lease is left behind each time
                raise Interrupted
            return submit(self, *args, **kwargs)

        monkeypatch.setattr(Store, "submit_comparison", fail_at_times)
        num_interruptions = 0
        while not store.progress("ranking").is_done:
            try:
                labelers.work(store, "ranking", TEAM, JUDGE, NOW, seed=1)
            except Interrupted:
                num_interruptions += 1
        assert num_interruptions >= 3
        assert frozen(store, tmp_path / "broken.jsonl") == whole


def test_tasks_of_the_heldout_cohort_are_done_by_heldout_labelers_alone(tmp_path):
    with Store.open(tmp_path / "store.db") as store:
        open_comparisons(store, 20, cohort="heldout")
        labelers.work(store, "ranking", TEAM, JUDGE, NOW, seed=1, purpose="evaluation")
        assert {row.cohort for row in store.rankings(["ranking"], ["train", "heldout"])} == {"heldout"}


def test_who_is_lazy_skips_with_a_reason_and_others_take_over(tmp_path):
    lazy = [replace(one, skip_rate=0.4) for one in COHORT["train"][:6]]
    with Store.open(tmp_path / "store.db") as store:
        open_comparisons(store, 30)
        shift = labelers.work(store, "ranking", lazy, JUDGE, NOW, seed=1)
        progress = store.progress("ranking")
        assert shift.num_skipped == sum(progress.reasons.values()) > 0
        assert set(progress.reasons) <= set(labelers.SKIP_REASONS)
        assert progress.num_submitted + progress.num_set_aside == 30


def test_judgements_in_the_store_agree_as_calibrated(tmp_path):
    with Store.open(tmp_path / "store.db") as store:
        open_comparisons(store, 150, overlap=3)
        labelers.work(store, "ranking", COHORT["train"], JUDGE, NOW, seed=1, noise_scale={"train": 0.0})
        rows = store.rankings(["ranking"], ["train"])
        noiseless = pairwise_agreement([Ranking(r.prompt.id, r.labeler, r.tiers) for r in rows], ties="drop").value
    panel = calibration.Panel(
        COHORT["train"], made_up.synthetic_sets(WORLD, 150, seed=6), JUDGE.assess, purpose="train", seed=1
    )
    # Both measure the same people on the same completions, though not the same pairs of people.
    assert noiseless == pytest.approx(panel.agreement(0.0).value, abs=0.03)
    assert noiseless > 0.85


def write_demonstrations(folder: Path, writers: list[labelers.SimulatedLabeler], flawed_fraction: float):
    asked = list({prompt.text: replace(prompt, split="train") for prompt in prompts.raw_prompts(WORLD)}.values())[:200]
    with Store.open(folder / "store.db") as store:
        store.add_prompts(asked)
        items = [TaskItem(prompt.id) for prompt in asked]
        store.open_tasks("writing", "demonstrate", items, overlap=1, cohort="train", now=NOW)
        labelers.work(store, "writing", writers, JUDGE, NOW, seed=1, flawed_fraction=flawed_fraction)
        rows = list(store.demonstrations(["writing"], ["train"]))
        kept = freeze_demonstrations(
            store, ["writing"], cohorts=frozenset(["train"]), path=folder / "d.jsonl", purpose="train"
        )
    assert kept.num_rows == len(rows) == 200
    assert {row.labeler for row in rows} <= {one.id for one in writers}
    return rows


def is_low(row) -> bool:
    """What is meant to be good earns 6 or 7; some flaws cost little and earn 6 too."""
    return JUDGE.assess(row.prompt.text, row.text).quality <= 5


@pytest.mark.parametrize(("flawed_fraction", "least", "most"), [(0.0, 0.0, 0.05), (0.4, 0.15, 0.45), (1.0, 0.5, 1.0)])
def test_demonstrations_are_flawed_as_often_as_asked(tmp_path, flawed_fraction, least, most):
    rows = write_demonstrations(tmp_path, labelers.writers(COHORT["train"]), flawed_fraction)
    assert least <= statistics.fmean(map(is_low, rows)) <= most


def test_who_has_all_skill_writes_no_flawed_demonstration(tmp_path):
    best, worst = (replace(one, skill=skill) for one, skill in zip(COHORT["train"][:2], (1.0, 0.0), strict=True))
    rows = write_demonstrations(tmp_path, [best, worst], 0.4)
    assert not any(is_low(row) for row in rows if row.labeler == best.id)
    # .4 on average of the two is .8 for the other one.
    assert statistics.fmean(is_low(row) for row in rows if row.labeler == worst.id) > 0.4


def test_a_cohort_without_a_noise_scale_is_refused(tmp_path):
    with Store.open(tmp_path / "store.db") as store, pytest.raises(ValueError, match="cohort heldout"):
        labelers.work(store, "x", TEAM, JUDGE, NOW, seed=1, noise_scale={"train": 0.1})


def test_a_share_of_flawed_demonstrations_above_1_is_refused(tmp_path):
    with Store.open(tmp_path / "store.db") as store, pytest.raises(ValueError, match=r"flawed_fraction 1\.5"):
        labelers.work(store, "x", TEAM, JUDGE, NOW, seed=1, flawed_fraction=1.5)


def test_sets_of_completions_come_back_from_a_frozen_file(tmp_path):
    with Store.open(tmp_path / "store.db") as store:
        open_comparisons(store, 12, overlap=2)
        labelers.work(store, "ranking", TEAM, JUDGE, NOW, seed=1)
        frozen(store, tmp_path / "rankings.jsonl")
    sets = calibration.frozen_sets(tmp_path / "rankings.jsonl")
    texts = {(shown.prompt[1], frozenset(text for _, text in shown.completions)) for shown in sets}
    shown_to_them = made_up.synthetic_sets(WORLD, 12, seed=6)
    assert texts == {(shown.prompt[1], frozenset(text for _, text in shown.completions)) for shown in shown_to_them}
