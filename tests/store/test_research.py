"""Research: every figure against a hand calculation or another library, on both databases."""

import math
from datetime import date, timedelta

import evalica
import numpy as np
import pandas as pd
import pytest

from instructloop.core.rankings import proportion
from instructloop.core.records import FLAGS
from instructloop.store import TaskItem
from instructloop.store.reports import TIE_RULES
from tests.store.judging import account, judge, tiers_of

NAMES = [f"train prompt {i}" for i in range(4)]


@pytest.fixture
def judged(desk):
    """Two labelers on two prompts of three completions."""
    desk.ranking(2, overlap=2)
    judge(desk, "ranking", "train-ann", {NAMES[0]: "0>1>2", NAMES[1]: "0>1=2"}, seconds=40)
    judge(desk, "ranking", "train-bob", {NAMES[0]: "0>2>1", NAMES[1]: "0>1>2"}, seconds=80)
    return desk


def ids(desk, number=2):
    return [prompt.id for prompt in desk.prompts(number)]


# Agreement


def test_agreement_by_each_tie_rule_is_that_of_a_hand_calculation(judged):
    p, q = ids(judged)
    # Prompt 0: 01 and 02 alike, 12 turned. Prompt 1: 01, 02 alike, 12 tied by ann alone.
    expected = {
        "drop": proportion([1, 1, 0, 1, 1], [p, p, p, q, q]),
        "half": proportion([1, 1, 0, 1, 1, 0.5], [p, p, p, q, q, q]),
        "strict": proportion([1, 1, 0, 1, 1, 0], [p, p, p, q, q, q]),
    }
    for ties, interval in expected.items():
        report = judged.store.research.agreement(ties=ties)
        assert report.overall == interval
        assert report.by_labeler == (("train-ann", interval), ("train-bob", interval))
        assert report.by_pair == (("train-ann", "train-bob", interval),)
        assert report.by_week == ((date(2026, 2, 23), interval),)  # 1 March 2026 is a Sunday
        assert (report.num_judgements, report.tie_rule) == (4, TIE_RULES[ties])


def test_a_week_is_that_of_the_later_judgement(desk):
    desk.ranking(2, overlap=2)
    judge(desk, "ranking", "train-ann", dict.fromkeys(NAMES, "0>1>2"))
    judge(desk, "ranking", "train-bob", dict.fromkeys(NAMES, "0>1>2"), after=24 * 3600)
    report = desk.store.research.agreement()
    assert [(week, interval.n) for week, interval in report.by_week] == [(date(2026, 3, 2), 6)]


def test_only_the_sets_and_cohorts_asked_for_count(judged):
    judged.ranking(2, overlap=2, cohort="heldout", task_set="evaluation")
    for name in ("ann", "bob"):
        judge(judged, "evaluation", f"heldout-{name}", dict.fromkeys(NAMES, "2>1>0"))
    agreement = judged.store.research.agreement
    assert agreement(cohorts=["heldout"]).overall.value == 1.0
    assert agreement(["ranking"]).overall.n == 5
    assert agreement(["evaluation"], ["train"]).overall is None
    # All: four people on each prompt meet six times each.
    assert [len(agreement(ties="half").by_pair), agreement(ties="half").overall.n] == [6, 36]
    for names, cohorts, said in (
        (["rank"], None, "task set 'rank' is not"),
        ("ranking", None, "collection of names"),
        ([], None, "at least one"),
        (None, ["trian"], "cohort 'trian'"),
    ):
        with pytest.raises(ValueError, match=said):
            agreement(names, cohorts)


def test_fields_have_the_alpha_of_another_library(desk):
    number, people = 12, ("train-ann", "train-bob")
    desk.ranking(number, overlap=2, k=4)
    names = [f"train prompt {i}" for i in range(number)]
    rng = np.random.default_rng(4)
    ratings = np.full((2, number, 4), math.nan)
    flags = np.full((2, number, 4), math.nan)
    truth = rng.integers(1, 8, (number, 4))
    for who, labeler in enumerate(people):
        while assignment := desk.store.claim("ranking", labeler, desk.now):
            prompt = names.index(assignment.prompt.text)
            given = np.clip(truth[prompt] + rng.integers(-1, 2, 4), 1, 7)
            raised = (truth[prompt] < 4) ^ (rng.random(4) < 0.2)
            form = {"ratings": {}, "flags": {}}
            for completion in assignment.completions:
                k = int(completion.policy[1:])
                if rng.random() < 0.2:  # left out
                    continue
                ratings[who, prompt, k], flags[who, prompt, k] = given[k], raised[k]
                form["ratings"][completion.id] = int(given[k])
                form["flags"][completion.id] = {"hallucination": bool(raised[k])}
            desk.rank(assignment, **form)
    fields = {one.field: one for one in desk.store.research.agreement().fields}
    assert list(fields) == ["rating", *FLAGS]
    for name, table, level in (("rating", ratings, "ordinal"), ("hallucination", flags, "nominal")):
        flat = pd.DataFrame(table.reshape(2, -1))
        paired = flat.columns[flat.notna().all()]
        found = fields[name]
        assert found.level == level
        assert found.alpha.value == pytest.approx(evalica.alpha(flat, level).alpha, abs=1e-9)
        assert found.alpha.low < found.alpha.value < found.alpha.high
        assert (found.alpha.n, found.num_labelers) == (len(paired), 2)
        same = (flat[paired].iloc[0] == flat[paired].iloc[1]).mean()
        assert (found.share.value, found.share.n) == (pytest.approx(same), len(paired))
        assert found.kappa is not None
    rare = fields["hallucination"]
    both = flags.reshape(2, -1)[:, ~np.isnan(flags.reshape(2, -1)).any(0)]
    assert rare.num_true_fraction == pytest.approx(both.mean())
    # Gwet's AC1 of two raters: P_e = 2 q (1 - q), q the share of yes.
    q = both.mean()
    assert rare.ac1.value == pytest.approx((rare.share.value - 2 * q * (1 - q)) / (1 - 2 * q * (1 - q)))
    unused = fields["sexual_content"]
    assert (unused.alpha, unused.share, unused.num_labelers, unused.num_true_fraction) == (None, None, 0, None)


def test_an_empty_store_has_figures_of_nothing(desk):
    report = desk.store.research.agreement()
    assert (report.overall, report.by_pair, report.num_judgements) == (None, (), 0)
    assert {one.alpha for one in report.fields} == {None}
    assert desk.store.research.progress(desk.now) == []
    assert desk.store.research.labelers() == []
    assert desk.store.research.conflicts().rows == ()


# Labelers


def test_a_labelers_figures_by_hand(judged):
    p, q = ids(judged)
    rows = {row.id: row for row in judged.store.research.labelers()}
    assert list(rows) == ["train-ann", "train-bob"]
    ann, bob = rows["train-ann"], rows["train-bob"]
    assert (ann.num_submitted, ann.num_comparisons, ann.num_skipped, ann.num_surplus) == (2, 2, 0, 0)
    assert (ann.median_seconds, ann.per_hour, bob.per_hour) == (40, 90, 45)
    assert ann.agreement == proportion([1, 1, 0, 1, 1], [p, p, p, q, q])
    assert ann.tie_rate == proportion([0, 0, 0, 0, 0, 1], [p, p, p, q, q, q])
    assert ann.skip_rate == proportion([0, 0], [p, q])
    assert ann.last_at == judged.later(60)
    detail = judged.store.research.labeler("train-bob")
    assert detail.row == bob
    assert [(week.monday, week.num_submitted, week.median_seconds) for week in detail.weeks] == [
        (date(2026, 2, 23), 2, 80)
    ]
    assert {head.prompt_text for head in detail.last} == set(NAMES[:2])
    assert (detail.reasons, detail.calibration.num_gold) == ({}, 0)
    with pytest.raises(ValueError, match="'nobody' is not in the store"):
        judged.store.research.labeler("nobody")


def test_who_prefers_what_comes_first_shows_a_position_bias(desk):
    desk.ranking(40, k=3, overlap=2)
    for labeler, is_biased in (("train-ann", True), ("train-bob", False)):
        while assignment := desk.store.claim("ranking", labeler, desk.now):
            shown = [completion.id for completion in assignment.completions]
            by_policy = tiers_of("0>1>2", assignment.completions)
            desk.rank(assignment, tiers=[[key] for key in shown] if is_biased else by_policy)
    ann, bob = desk.store.research.labelers()
    assert (ann.position_bias.value, ann.position_bias.n, ann.position_bias.n_clusters) == (1.0, 120, 40)
    assert ann.position_bias.low > 0.9
    assert bob.position_bias.low < 0.5 < bob.position_bias.high  # orders are drawn by a hash


def test_skips_count_in_the_rate_and_with_their_reasons(desk):
    desk.ranking(3)
    desk.store.skip(desk.claim("ranking", "train-ann").id, "unclear", desk.now)
    judge(desk, "ranking", "train-ann", dict.fromkeys(NAMES, "0>1>2"))
    detail = desk.store.research.labeler("train-ann")
    assert (detail.row.num_skipped, detail.row.skip_rate.value, detail.reasons) == (
        1,
        pytest.approx(1 / 3),
        {"unclear": 1},
    )


# Progress


def test_progress_counts_by_set_and_cohort(desk):
    owner = account(desk).id
    desk.ranking(3, overlap=2)
    desk.store.skip(desk.claim("ranking", "train-ann").id, "unclear", desk.now)
    submitted = desk.claim("ranking", "train-ann")
    desk.rank(submitted)
    desk.claim("ranking", "train-bob")
    (row,) = desk.store.research.progress(desk.later(60))
    assert (row.task_set, row.kind, row.cohort, row.purpose) == ("ranking", "compare", "train", "work")
    counts = (row.num_tasks, row.num_wanted, row.num_submitted, row.num_leased, row.num_skipped, row.num_remaining)
    assert counts == (3, 6, 1, 1, 1, 5)
    assert (row.opened_at, row.last_submitted_at) == (desk.now, desk.later(60))
    assert desk.store.research.progress(desk.later(3600))[0].num_leased == 0  # the lease has run out
    desk.store.research.set_targets({"ranking": 4}, by=owner, now=desk.now)
    assert desk.store.research.progress(desk.now)[0].num_wanted == 4
    assert desk.store.research.targets() == {"ranking": 4}
    for wrong, said in (({"rank": 4}, "'rank' is not in the store"), ({"ranking": 0}, "number from 1")):
        with pytest.raises(ValueError, match=said):
            desk.store.research.set_targets(wrong, by=owner, now=desk.now)


def test_screening_and_calibration_are_no_work(desk):
    owner = account(desk).id
    items = [TaskItem(p.id, tuple(c.id for c in desk.completions(p, 2))) for p in desk.prompts(1)]
    for purpose, cohort in (("screening", "screening"), ("calibration", "train"), ("calibration", "heldout")):
        how = {"purpose": purpose, "cohort": cohort, "num_people": 3, "by": owner, "now": desk.now}
        desk.store.screening.open_sets(items, **how)
    rows = desk.store.research.progress(desk.now)
    assert sorted((row.purpose, row.cohort, row.num_wanted) for row in rows) == [
        ("calibration", "heldout", 3),
        ("calibration", "train", 3),
        ("screening", "screening", 3),
    ]


def test_judgements_are_counted_by_day(desk):
    desk.ranking(3)
    desk.writing(1)
    for seconds in (0, 13 * 3600, 14 * 3600):  # from noon: once on 1 March, twice on 2 March
        desk.rank(desk.claim("ranking", "train-ann", seconds), after=seconds)
    first = desk.write(desk.claim("writing", "train-ann"), after=60)
    desk.store.revise_demonstration(first, "better", now=desk.later(24 * 3600), idempotency_key="r")
    days = desk.store.research.per_day(desk.now - timedelta(days=1))
    assert [(one.day.day, one.kind, one.cohort, one.num_submitted) for one in days] == [
        (1, "compare", "train", 1),
        (1, "demonstrate", "train", 1),
        (2, "compare", "train", 2),
    ]
    assert len(desk.store.research.per_day(desk.later(3600))) == 1


def test_a_task_that_three_people_skipped_waits_for_a_researcher(desk):
    desk.store.add_labeler("train-cid", "train", now=desk.now)
    desk.ranking(1, overlap=2)
    for i, (name, reason) in enumerate((("ann", "unclear"), ("bob", "too hard"), ("cid", "unclear"))):
        desk.store.skip(desk.claim("ranking", f"train-{name}", i).id, reason, desk.later(i))
    (aside,) = desk.store.research.set_aside()
    assert (aside.task_set, aside.prompt.text, aside.reasons) == (
        "ranking",
        NAMES[0],
        ("unclear", "too hard", "unclear"),
    )
    (row,) = desk.store.research.progress(desk.later(9))
    assert (row.num_set_aside, row.num_remaining) == (1, 0)


# Conflicts


def test_conflicts_come_worst_first_and_a_researcher_has_the_last_word(desk):
    owner = account(desk).id
    desk.ranking(4, overlap=2)
    judge(desk, "ranking", "train-ann", dict.fromkeys(NAMES, "0>1>2"))
    others = dict(zip(NAMES, ("2>1>0", "0>2>1", "0>1>2", "0=1=2"), strict=True))
    judge(desk, "ranking", "train-bob", others)
    # Agreement with half for a one-sided tie: 0, 2/3, 1 and 1/2.
    page = desk.store.research.conflicts(below=0.9)
    assert [(one.prompt.text, one.agreement, one.num_pairs, one.num_judgements) for one in page.rows] == [
        (NAMES[0], 0.0, 3, 2),
        (NAMES[3], 0.5, 3, 2),
        (NAMES[1], pytest.approx(2 / 3), 3, 2),
    ]
    assert page.total == 3
    second = desk.store.research.conflicts(1, 1, below=0.9)
    assert ([one.prompt.text for one in second.rows], second.total) == ([NAMES[3]], 3)
    worst = page.rows[0]
    completions = desk.completions(worst.prompt, 3)
    research = desk.store.research
    tiers = tiers_of("1>0=2", completions)
    adjudication = research.adjudicate(worst.task_id, tiers, "1 answers", by=owner, now=desk.now)
    detail = research.conflict(worst.task_id)
    assert detail.conflict.is_adjudicated
    assert detail.adjudications[0].id == adjudication
    assert detail.adjudications[0].tiers == tuple(tuple(sorted(tier)) for tier in tiers)
    assert {one.labeler for one in detail.judgements} == {"train-ann", "train-bob"}  # they stay
    assert [one.id for one in detail.completions] == [one.id for one in completions]
    assert research.conflicts(below=0.9).rows[-1].task_id == worst.task_id  # what is settled comes last
    research.adjudicate(worst.task_id, tiers_of("0>1>2", completions), "no", by=owner, now=desk.later(1))
    assert [one.reason for one in research.conflict(worst.task_id).adjudications] == ["no", "1 answers"]
    for task, order, reason, said in (
        ("task-x", tiers, "r", "no comparison"),
        (worst.task_id, tiers[:1], "r", "is not ranked"),
        (worst.task_id, tiers, " ", "blank"),
    ):
        with pytest.raises(ValueError, match=said):
            research.adjudicate(task, order, reason, by=owner, now=desk.now)


def test_a_task_that_one_person_judged_is_no_conflict(desk):
    desk.ranking(1)
    judge(desk, "ranking", "train-ann", {NAMES[0]: "0>1>2"})
    assert desk.store.research.conflicts(below=1.1).total == 0
    with desk.store._database.read.connect() as connection:
        task = connection.exec_driver_sql("SELECT id FROM task").scalar()
    assert desk.store.research.conflict(task) is None
    assert desk.store.research.conflict("task-x") is None


# Search and settings


def test_search_finds_texts_of_each_kind_and_takes_no_pattern(desk):
    desk.writing(1)
    desk.write(desk.claim("writing", "train-ann"), "a 100% honest OTTER_tale")
    desk.ranking(1)
    assignment = desk.claim("ranking", "train-bob")
    desk.rank(assignment, notes={assignment.completions[0].id: "the otter is missing"})
    search = desk.store.research.search
    hits = search("otter")
    assert [(hit.kind, hit.who, hit.excerpt) for hit in hits.rows] == [
        ("demonstration", "train-ann", "a 100% honest OTTER_tale"),
        ("note", "train-bob", "the otter is missing"),
    ]
    assert {hit.prompt_id for hit in hits.rows} == {desk.prompts(1)[0].id}
    assert [search(text).total for text in ("100%", "1%0", "r_t", "r.t")] == [1, 0, 1, 0]
    assert [(hit.kind, hit.who) for hit in search("prompt 0").rows] == [("prompt", "customer")]
    assert (len(search("say", "completion", 2).rows), search("say", "completion", 2).total) == (2, 3)
    pages = [search("say", "completion", 1, offset).rows[0].id for offset in range(3)]
    assert sorted(pages) == pages == sorted({c.id for c in desk.completions(desk.prompts(1)[0], 3)})
    for wrong, said in (((" ",), "blank"), (("a", "people"), "kind 'people'")):
        with pytest.raises(ValueError, match=said):
            search(*wrong)


def test_an_excerpt_shows_what_is_around(desk):
    desk.writing(1)
    desk.write(desk.claim("writing", "train-ann"), "x" * 500 + " Needle " + "y" * 500)
    (hit,) = desk.store.research.search("needle").rows
    assert hit.excerpt == "…" + "x" * 79 + " Needle " + "y" * 79 + "…"


def test_a_setting_is_a_value_with_a_history(desk):
    owner = account(desk).id
    research = desk.store.research
    assert research.setting("alert.last", 20) == 20
    for value in (30, {"a": [1, None]}):
        research.set_setting("alert.last", value, by=owner, now=desk.now)
        assert research.setting("alert.last", 20) == value
    events = desk.store.audit.events(object_id="alert.last")
    assert [event.action for event in events] == ["setting.set", "setting.set"]
    assert events[0].before_hash == events[1].after_hash


def test_judgements_of_another_task_on_the_same_prompt_make_no_conflict(desk):
    for task_set in ("first", "second"):
        desk.ranking(1, overlap=2, task_set=task_set)
    for task_set, order in (("first", "0>1>2"), ("second", "2>1>0")):
        for labeler in ("train-ann", "train-bob"):
            judge(desk, task_set, labeler, {NAMES[0]: order})
    assert desk.store.research.conflicts(below=1.0).total == 0
    page = desk.store.research.conflicts(below=1.1)
    assert [(one.agreement, one.num_pairs) for one in page.rows] == [(1.0, 3), (1.0, 3)]
