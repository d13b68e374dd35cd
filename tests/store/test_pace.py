"""A labeler's history, pace and agreement with others, against numbers counted by hand."""

from datetime import date

import pytest

from instructloop.core.rankings import proportion

DAY = 86400.0


def work(desk, number, labeler="train-ann", *, after=0.0, seconds=30.0, kind=None, **changes):
    """Claim and submit what comes next, `after` seconds past noon of 1 March 2026."""
    desk_of = desk.store.desk
    assignment = desk_of.next_assignment(labeler, desk.later(after), kind)
    answer = desk.form(assignment, **changes) if assignment.kind == "compare" else f"answer {number}"
    desk_of.submit(
        assignment.id,
        labeler,
        answer,
        key=str(number),
        active_seconds=seconds,
        wall_seconds=2 * seconds,
        instruction=1,
        now=desk.later(after),
    )
    return assignment


def test_history_comes_newest_first_page_by_page(desk):
    desk.writing(5)
    done = [work(desk, number, after=100.0 * (number // 2)) for number in range(5)]  # two at a time: times repeat
    pages, before = [], None
    while page := desk.store.desk.history("train-ann", limit=2, before=before):
        pages.append(page)
        before = page[-1].assignment_id
    assert [len(page) for page in pages] == [2, 2, 1]
    listed = [item for page in pages for item in page]
    assert [item.submitted_at for item in listed] == [desk.later(s) for s in (200, 100, 100, 0, 0)]
    assert {item.assignment_id for item in listed} == {assignment.id for assignment in done}
    assert listed[0].assignment_id == done[4].id
    assert (listed[0].kind, listed[0].task_set, listed[0].state) == ("demonstrate", "writing", "submitted")
    assert (listed[0].prompt, listed[0].active_seconds, listed[0].num_revisions) == (done[4].prompt, 30.0, 0)


def test_a_revised_answer_stays_one_line_of_the_history(desk):
    desk.writing(2)
    first, _ = work(desk, 0), work(desk, 1, after=10)
    for number in range(2):
        desk.store.desk.revise(
            first.id,
            "train-ann",
            f"better {number}",
            key=f"r{number}",
            active_seconds=5.0,
            wall_seconds=5.0,
            instruction=1,
            now=desk.later(100 + number),
        )
    newest, oldest = desk.store.desk.history("train-ann")
    assert (newest.num_revisions, oldest.num_revisions) == (0, 2)
    assert (oldest.submitted_at, oldest.active_seconds) == (desk.now, 30.0)
    assert desk.store.desk.pace("train-ann", desk.later(200)).num_submitted == 2


def test_history_is_ones_own_and_holds_surplus(desk):
    desk.writing(1)
    mine = desk.claim("writing", "train-ann")
    work(desk, 0, "train-bob", after=1000)
    desk.write(mine, after=1001)  # late, not through the app: nobody timed it
    [item] = desk.store.desk.history("train-ann")
    assert (item.state, item.active_seconds) == ("surplus", None)
    with pytest.raises(ValueError, match="not in your history"):
        desk.store.desk.history("train-bob", before=mine.id)
    with pytest.raises(ValueError, match="limit 0"):
        desk.store.desk.history("train-bob", limit=0)


def test_pace_by_hand(desk):
    desk.writing(4)
    desk.ranking(2, k=2)
    # Submitted 8 days, 3 days, 25 hours, 23 hours, 2 hours and 0 hours before noon of 11 March.
    for number, (days, seconds, kind) in enumerate(
        [
            (2.0, 1000.0, "demonstrate"),
            (7.0, 10.0, "demonstrate"),
            (10 - 25 / 24, 20.0, "compare"),
            (10 - 23 / 24, 40.0, "demonstrate"),
            (10 - 2 / 24, 80.0, "compare"),
            (10.0, 160.0, "demonstrate"),
        ]
    ):
        work(desk, number, after=days * DAY, seconds=seconds, kind=kind)
    pace = desk.store.desk.pace("train-ann", desk.later(10 * DAY))
    assert (pace.num_submitted, pace.num_last_week, pace.num_last_day) == (6, 5, 3)
    assert pace.active_seconds_last_day == 280  # 40 + 80 + 160
    assert pace.active_seconds_last_week == 310  # and 10 + 20
    assert pace.median_seconds == {"demonstrate": 100.0, "compare": 50.0}  # of 10, 40, 160, 1000; of 20, 80
    assert [day for day, _ in pace.by_day] == [date(2026, 2, 26), date(2026, 2, 27), date(2026, 2, 28)] + [
        date(2026, 3, day) for day in range(1, 12)
    ]
    # 3 and 8 March one each; 25 and 23 hours before noon are 10 March 11:00 and 13:00; 10:00 and 12:00 on the 11th.
    assert {day.day: number for day, number in pace.by_day if number} == {3: 1, 8: 1, 10: 2, 11: 2}


def test_who_did_nothing_has_no_pace_and_no_agreement(desk):
    pace = desk.store.desk.pace("train-ann", desk.now)
    assert (pace.num_submitted, pace.active_seconds_last_week, pace.median_seconds) == (0, 0, {})
    assert desk.store.desk.history("train-ann") == []
    assert desk.store.desk.agreement("train-ann") is None


def test_agreement_by_hand(desk):
    desk.ranking(3, k=3, overlap=2)
    orders = {
        # ann against bob on the pairs AB, AC, BC: all agree; AB and AC agree, bob ties BC; BC alone agrees
        "train-ann": [["A", "B", "C"], ["A", "B", "C"], ["A", "B", "C"]],
        "train-bob": [["A", "B", "C"], ["A", "BC"], ["B", "C", "A"]],
    }
    for labeler, tiers_of_task in orders.items():
        for number, tiers in enumerate(tiers_of_task):
            assignment = desk.claim("ranking", labeler)
            name = dict(zip("ABC", sorted(completion.id for completion in assignment.completions), strict=True))
            desk.rank(assignment, key=str(number), tiers=[[name[letter] for letter in tier] for tier in tiers])
    # Without the tied pair 3 of 3, 2 of 2, 1 of 3: 6 of 8, in three prompts.
    expected = proportion([1, 1, 1, 1, 1, 0, 0, 1], ["p", "p", "p", "q", "q", "r", "r", "r"])
    for labeler in orders:
        found = desk.store.desk.agreement(labeler)
        assert (found.value, found.n, found.n_clusters) == (0.75, 8, 3)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert desk.store.desk.agreement("heldout-ann") is None


def test_agreement_follows_revisions_and_leaves_out_surplus(desk):
    desk.ranking(1, k=2, overlap=2)
    desk.store.add_labeler("train-cy", "train", now=desk.now)
    late = desk.claim("ranking", "train-cy")
    ann, bob = (desk.claim("ranking", name, after=1000) for name in ("train-ann", "train-bob"))
    x, y = sorted(completion.id for completion in ann.completions)
    desk.rank(ann, after=1001, tiers=[[x], [y]])
    assert desk.store.desk.agreement("train-ann") is None
    second = desk.rank(bob, after=1001, tiers=[[y], [x]])
    desk.rank(late, after=1002, tiers=[[x], [y]])
    assert desk.store.desk.agreement("train-ann").value == 0.0  # cy agrees, but came too late
    assert desk.store.desk.agreement("train-cy") is None
    form = desk.form(bob, tiers=[[x], [y]])
    desk.store.revise_comparison(second, form, now=desk.later(1100), idempotency_key="r")
    assert desk.store.desk.agreement("train-ann").value == 1.0
