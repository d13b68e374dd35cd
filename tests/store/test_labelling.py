"""Claims, leases, skips, submissions and revisions."""

from datetime import datetime

import pytest
from sqlalchemy import text


def test_a_claim_leases_the_first_task_opened(desk):
    desk.writing(2)
    first, second = desk.prompts(2)
    assert desk.claim("writing", "train-ann").prompt == first
    assert desk.claim("writing", "train-bob").prompt == second
    assert desk.claim("writing", "train-ann").expires_at == desk.later(900)


def test_a_higher_priority_comes_first(desk):
    from instructloop.store import TaskItem

    low, high = desk.prompts(2)
    for prompt, priority in ((low, 0), (high, 5)):
        desk.store.open_tasks(
            "s", "demonstrate", [TaskItem(prompt.id)], overlap=1, cohort="train", priority=priority, now=desk.now
        )
    assert desk.claim("s", "train-ann").prompt == high


def test_who_claims_again_gets_the_unfinished_task_back(desk):
    desk.ranking(2)
    first = desk.claim("ranking", "train-ann")
    again = desk.claim("ranking", "train-ann", after=100)
    assert (again.id, again.completions) == (first.id, first.completions)
    assert again.expires_at == desk.later(1000)
    assert desk.store.progress("ranking").num_leased == 1


def test_nobody_meets_a_task_twice(desk):
    desk.writing(2, overlap=2)
    seen = []
    for key in ("a", "b"):
        seen.append(desk.claim("writing", "train-ann").task_id)
        desk.write(desk.claim("writing", "train-ann"), key=key)
    assert len(set(seen)) == 2
    assert desk.store.claim("writing", "train-ann", desk.now) is None


def test_a_claim_stays_within_the_cohort(desk):
    desk.writing(1, cohort="heldout")
    for cohort in ("train", "screening", "researcher"):
        assert desk.store.claim("writing", f"{cohort}-ann", desk.now) is None
    assert desk.claim("writing", "heldout-ann")


def test_unknown_labelers_and_task_sets_are_refused(desk):
    desk.writing()
    with pytest.raises(ValueError, match="labeler 'nobody'"):
        desk.store.claim("writing", "nobody", desk.now)
    with pytest.raises(ValueError, match=r"task set .wirting. is not in the store \(there are: writing\)"):
        desk.store.claim("wirting", "train-ann", desk.now)
    with pytest.raises(ValueError, match="time zone"):
        desk.store.claim("writing", "train-ann", datetime(2026, 3, 1))


def test_overlap_bounds_the_leases(desk):
    desk.writing(1, overlap=1)
    desk.claim("writing", "train-ann")
    assert desk.store.claim("writing", "train-bob", desk.later(899)) is None


def test_an_expired_lease_frees_its_slot(desk):
    desk.writing()
    desk.claim("writing", "train-ann")
    assert desk.claim("writing", "train-bob", after=900)  # the lease ends at 900 s, not after
    assert desk.store.claim("writing", "train-ann", desk.later(901)) is None


def test_who_let_a_lease_expire_may_take_the_task_up_again(desk):
    desk.ranking()
    first = desk.claim("ranking", "train-ann")
    again = desk.claim("ranking", "train-ann", after=5000)
    assert (again.id, again.completions) == (first.id, first.completions)


def test_a_heartbeat_prolongs_the_lease(desk):
    desk.writing()
    mine = desk.claim("writing", "train-ann")
    assert desk.store.heartbeat(mine.id, desk.later(800)) == desk.later(1700)
    assert desk.store.claim("writing", "train-bob", desk.later(1699)) is None


def test_a_heartbeat_revives_an_expired_lease_whose_slot_is_free(desk):
    desk.writing(2)
    mine = desk.claim("writing", "train-ann")
    desk.claim("writing", "train-bob", after=500)
    desk.claim("writing", "train-bob", after=1000)  # his own again; mine has run out and is noticed
    assert desk.store.progress("writing").num_leased == 1
    assert desk.store.heartbeat(mine.id, desk.later(1001)) == desk.later(1901)
    assert desk.store.progress("writing").num_leased == 2
    desk.store.add_labeler("train-cy", "train", now=desk.now)
    assert desk.store.claim("writing", "train-cy", desk.later(1002)) is None


def test_a_heartbeat_revives_an_expired_lease_only_while_its_slot_is_free(desk):
    desk.writing(2)
    mine = desk.claim("writing", "train-ann")
    other = desk.claim("writing", "train-bob")
    desk.write(other)
    assert desk.claim("writing", "train-bob", after=1000).task_id == mine.task_id  # sweeps and takes the slot
    assert desk.store.heartbeat(mine.id, desk.later(1001)) is None
    desk.store.skip(mine.id, "away", desk.later(1002))
    desk.store.skip(desk.claim("writing", "train-bob", after=1003).id, "unclear", desk.later(1003))
    assert desk.store.heartbeat(mine.id, desk.later(1004)) is None  # skipped is for good


def test_a_late_submission_is_accepted_while_the_slot_is_free(desk):
    desk.writing(2)
    mine = desk.claim("writing", "train-ann")
    other = desk.claim("writing", "train-bob", after=500)
    desk.store.heartbeat(other.id, desk.later(1000))
    assert desk.claim("writing", "train-bob", after=1000).id == other.id  # sweeps mine
    assert desk.store.progress("writing").num_leased == 1
    desk.write(mine, after=1100)
    progress = desk.store.progress("writing")
    assert (progress.num_submitted, progress.num_surplus) == (1, 0)


def test_a_submission_after_the_lease_ended_but_before_anybody_noticed_counts(desk):
    desk.writing()
    mine = desk.claim("writing", "train-ann")
    desk.write(mine, after=100_000)
    assert desk.store.progress("writing").num_submitted == 1


def test_a_late_submission_is_kept_as_surplus_when_another_has_the_slot(desk):
    desk.writing()
    mine = desk.claim("writing", "train-ann")
    other = desk.claim("writing", "train-bob", after=1000)
    late = desk.write(mine, "mine, late", after=1100)
    desk.write(other, "the other's", after=1200)
    progress = desk.store.progress("writing")
    assert (progress.num_submitted, progress.num_surplus, progress.num_remaining) == (1, 1, 0)
    assert progress.labelers == [("train-bob", 1)]
    assert [row.text for row in desk.store.demonstrations(["writing"], ["train"])] == ["the other's"]
    assert desk.store.left_out(["writing"], ["train"]) == {"surplus": 1}
    assert desk.stored_text(late) == "mine, late"


def test_a_skip_needs_a_reason_and_frees_the_slot_for_others(desk):
    desk.writing()
    mine = desk.claim("writing", "train-ann")
    with pytest.raises(ValueError, match="reason to skip is blank"):
        desk.store.skip(mine.id, "  ", desk.now)
    desk.store.skip(mine.id, "unclear", desk.now)
    desk.store.skip(mine.id, "unclear", desk.now)
    assert desk.store.claim("writing", "train-ann", desk.now) is None
    assert desk.claim("writing", "train-bob").task_id == mine.task_id
    progress = desk.store.progress("writing")
    assert (progress.num_skipped, progress.reasons) == (1, {"unclear": 1})


def test_what_is_submitted_cannot_be_skipped(desk):
    desk.writing()
    mine = desk.claim("writing", "train-ann")
    desk.write(mine)
    with pytest.raises(ValueError, match="is submitted and cannot be skipped"):
        desk.store.skip(mine.id, "changed my mind", desk.now)


def test_a_submission_after_a_skip_is_kept(desk):
    desk.writing()
    mine = desk.claim("writing", "train-ann")
    desk.store.skip(mine.id, "the other tab", desk.now)
    desk.write(mine, "written in this tab")
    progress = desk.store.progress("writing")
    assert (progress.num_submitted, progress.num_skipped, progress.reasons) == (1, 0, {})


def test_a_task_skipped_by_three_is_set_aside(desk):
    for name in ("cy", "dee"):
        desk.store.add_labeler(f"train-{name}", "train", now=desk.now)
    desk.writing(1, overlap=1)
    for name in ("ann", "bob", "cy"):
        assert not desk.store.progress("writing").is_done
        desk.store.skip(desk.claim("writing", f"train-{name}").id, "unclear", desk.now)
    assert desk.store.claim("writing", "train-dee", desk.now) is None
    progress = desk.store.progress("writing")
    assert (progress.num_set_aside, progress.num_remaining, progress.is_done) == (1, 0, True)
    assert (progress.num_judgements_wanted, progress.num_submitted) == (1, 0)


def test_a_skip_undone_by_an_answer_no_longer_counts_against_the_task(desk):
    for name in ("cy", "dee"):
        desk.store.add_labeler(f"train-{name}", "train", now=desk.now)
    desk.writing(1, overlap=2)
    skipped = [desk.claim("writing", "train-ann")]
    desk.store.skip(skipped[0].id, "unclear", desk.now)
    for name in ("bob", "cy"):
        desk.store.skip(desk.claim("writing", f"train-{name}").id, "unclear", desk.now)
    assert desk.store.claim("writing", "train-dee", desk.now) is None
    desk.write(skipped[0], "clear after all")
    assert desk.store.progress("writing").num_remaining == 1
    assert desk.claim("writing", "train-dee")


def test_an_answer_of_the_wrong_kind_is_refused(desk):
    desk.writing()
    desk.ranking()
    with pytest.raises(ValueError, match="asks to compare, not to demonstrate"):
        desk.write(desk.claim("ranking", "train-ann"))
    with pytest.raises(ValueError, match="asks to demonstrate, not to compare"):
        desk.rank(desk.claim("writing", "train-ann"))


@pytest.mark.parametrize(("bad", "what"), [(" \n", "blank"), ("a\x00b", "NUL"), ("a\ud800", "Unicode")])
def test_a_demonstration_must_be_text(desk, bad, what):
    desk.writing()
    mine = desk.claim("writing", "train-ann")
    with pytest.raises(ValueError, match=f"demonstration .*{what}"):
        desk.write(mine, bad)
    assert desk.write(mine, "  kept as typed \n")
    assert next(desk.store.demonstrations(["writing"], ["train"])).text == "  kept as typed \n"


def test_a_refused_form_leaves_nothing_behind(desk):
    desk.ranking()
    mine = desk.claim("ranking", "train-ann")
    with pytest.raises(ValueError, match="rating 8"):
        desk.rank(mine, ratings={mine.completions[0].id: 8})
    progress = desk.store.progress("ranking")
    assert (progress.num_submitted, progress.num_leased) == (0, 1)
    assert desk.rank(mine)


def test_what_is_not_answered_is_null_and_never_zero(desk):
    desk.ranking()
    mine = desk.claim("ranking", "train-ann")
    first, second, third = (completion.id for completion in mine.completions)
    desk.rank(mine, ratings={first: 1, second: None}, flags={first: {"hallucination": False, "harmful_advice": None}})
    with desk.store._database.read.connect() as connection:
        rows = {row[0]: row[1] for row in connection.execute(text("SELECT completion_id, rating FROM rating"))}
    assert rows == {first: 1, second: None, third: None}
    (row,) = desk.store.rankings(["ranking"], ["train"])
    assert row.flags[first]["hallucination"] is False
    others = [
        value
        for key, flags in row.flags.items()
        for flag, value in flags.items()
        if (key, flag) != (first, "hallucination")
    ]
    assert others == [None] * (3 * 11 - 1)


def test_the_order_shown_is_stored_and_differs_between_labelers(desk):
    desk.ranking(20, k=5, overlap=2)
    orders = {}
    for name in ("train-ann", "train-bob"):
        while assignment := desk.store.claim("ranking", name, desk.now):
            orders[assignment.task_id, name] = tuple(completion.id for completion in assignment.completions)
            desk.rank(assignment)
    for row in desk.store.rankings(["ranking"], ["train"]):
        assert row.shown in orders.values()
        assert set(row.shown) == {completion.id for completion in row.completions}
    same = [orders[task, "train-ann"] == order for (task, name), order in orders.items() if name == "train-bob"]
    assert sum(same) <= 3  # of 20 pairs of shuffles of 5, each equal with probability 1/120


def test_items_of_a_task_set_come_back_as_they_were_opened(desk):
    from instructloop.store import TaskItem

    first, second, third = desk.prompts(3)
    several = [one.id for one in desk.completions(first, 4)]
    asked = [
        TaskItem(second.id, tuple(one.id for one in desk.completions(second, 2)), 3),
        TaskItem(first.id, tuple(reversed(several)), 1),
    ]
    desk.store.open_tasks("ranking", "compare", asked, overlap=1, cohort="train", now=desk.now)
    desk.store.open_tasks("writing", "demonstrate", [TaskItem(third.id)], overlap=2, cohort="train", now=desk.now)
    assert desk.store.items("ranking") == asked
    assert desk.store.items("writing") == [TaskItem(third.id, (), 2)]
    with pytest.raises(ValueError, match="not in the store"):
        desk.store.items("rankings")
