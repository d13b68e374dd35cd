"""Screening and calibration in the store: gold, reports and decisions against figures by hand."""

import json
from datetime import timedelta

import pytest

from instructloop.core.rankings import mean_interval, proportion
from instructloop.core.records import FLAGS
from instructloop.core.screening import CutOffs
from instructloop.store import TaskItem, freeze_rankings
from instructloop.store.screening_reports import GoldForm
from tests.store.judging import account, judge, tiers_of

CANDIDATE = "screening-ann"


@pytest.fixture
def owner(desk):
    return account(desk).id


def open_gold(desk, owner, number=2, k=3, *, purpose="screening", cohort="screening", people=5):
    """Open tasks on so many prompts with k completions each."""
    items = [TaskItem(p.id, tuple(c.id for c in desk.completions(p, k))) for p in desk.prompts(number)]
    common = {"purpose": purpose, "cohort": cohort, "num_people": people, "by": owner, "now": desk.now}
    return desk.store.screening.open_sets(items, **common)


def set_gold(desk, owner, order="0>1>2", sensitive=(), why="because"):
    """Say of every gold task the same order, and that these completions are sensitive."""
    for task in desk.store.screening.gold_tasks():
        if task.kind != "compare":
            continue
        flags = {
            completion.id: {"violent_content": int(completion.policy[1:]) in sensitive}
            for completion in task.completions
        }
        form = GoldForm(tiers=tuple(map(tuple, tiers_of(order, task.completions))), flags=flags, why=why)
        desk.store.screening.set_gold(task.id, form, by=owner, now=desk.now)


def test_a_report_has_the_figures_of_the_paper_by_hand(desk, owner):
    open_gold(desk, owner)
    set_gold(desk, owner, "0>1=2", sensitive={0})
    # Prompt 0: 0>1 and 0>2 as gold, 12 is tied there: 2 of 2. Prompt 1: 0>1 turned, 0>2 as gold: 1 of 2.
    orders = {"train prompt 0": "0>1>2", "train prompt 1": "1>0>2"}
    # Of each prompt's three completions 0 is called sensitive by another flag (agreed), 1 wrongly, 2 agreed: 4 of 6.
    flags = {0: {"sexual_content": True}, 1: {"harmful_advice": True}}
    judge(desk, "screening", CANDIDATE, orders, flags=flags, seconds=120)
    report = desk.store.screening.report(CANDIDATE)
    p, q = (prompt.id for prompt in desk.prompts(2))
    assert report.rankings == proportion([1, 1, 0, 1], [p, p, q, q])
    assert report.flags == proportion([1, 0, 1, 1, 0, 1], [p] * 3 + [q] * 3)
    # tau-b: prompt 0 (2 - 0) / sqrt(3 * 2); prompt 1 (1 - 1) / sqrt(3 * 2).
    assert report.kendall_tau == mean_interval([2 / 6**0.5, 0.0], [p, q], bounds=(-1, 1))
    # AC1: P = 4/6; sensitive are 4 of 6 by one, 2 of 6 by the other: q = 1/2, P_e = 1/2; (4/6 - 1/2) / (1/2) = 1/3.
    assert report.flags_ac1 is not None
    assert report.flags_ac1.value == pytest.approx(1 / 3)
    assert (report.num_tasks, report.num_submitted, report.num_gold) == (2, 2, 2)
    assert report.median_seconds == 120
    assert report.verdicts == {"flags": False, "rankings": True, "demonstrations": None}
    assert report.is_passed is False
    assert "left out" in report.tie_rule


def test_nothing_is_measured_of_who_did_nothing(desk, owner):
    open_gold(desk, owner)
    set_gold(desk, owner)
    report = desk.store.screening.report(CANDIDATE)
    assert (report.rankings, report.flags, report.grade, report.kendall_tau, report.median_seconds) == (None,) * 5
    assert report.is_passed is None
    with pytest.raises(ValueError, match="'nobody' is not in the store"):
        desk.store.screening.report("nobody")


def test_demonstrations_are_graded_blind_and_a_later_grade_replaces_the_earlier(desk, owner):
    prompts = desk.prompts(2)
    screening = desk.store.screening
    assert screening.open_writing([one.id for one in prompts], num_people=3, by=owner, now=desk.now) == 2
    written = []
    for i in range(2):
        assignment = desk.claim("screening-writing", CANDIDATE)
        written.append(desk.write(assignment, f"gentle {i}", after=60 + i))
    second = account(desk, "researcher", "researcher", "Rosa").id
    assert [one.text for one in screening.to_grade(owner)] == ["gentle 0", "gentle 1"]
    assert not hasattr(screening.to_grade(owner)[0], "labeler")
    for submission, by, grade in ((written[0], owner, 3), (written[0], owner, 7), (written[0], second, 5)):
        screening.grade(submission, grade, by=by, now=desk.now)
    assert [one.text for one in screening.to_grade(owner)] == ["gentle 1"]
    assert len(screening.to_grade(second)) == 1
    report = screening.report(CANDIDATE)
    assert report.num_to_grade == 1
    assert report.grade == mean_interval([7, 5], [prompts[0].id] * 2, bounds=(1, 7))
    assert report.verdicts["demonstrations"] is True  # 6 of the 6 that are wanted
    (candidate, _) = screening.candidates()
    assert (candidate.labeler, candidate.num_submitted, candidate.num_to_grade) == (CANDIDATE, 2, 1)
    for wrong, problem in ((8, "from 1 to 7"), (True, "from 1 to 7")):
        with pytest.raises(ValueError, match=problem):
            screening.grade(written[0], wrong, by=owner, now=desk.now)
    with pytest.raises(ValueError, match="no demonstration of screening"):
        screening.grade("submission-x", 5, by=owner, now=desk.now)


def test_a_decision_keeps_the_report_and_moves_the_labeler_once(desk, owner):
    open_gold(desk, owner)
    set_gold(desk, owner)
    judge(desk, "screening", CANDIDATE, dict.fromkeys(("train prompt 0", "train prompt 1"), "0>1>2"))
    screening = desk.store.screening
    how = {"by": owner, "now": desk.now}
    declined = screening.decide(CANDIDATE, False, cohort=None, reason="too fast", **how)
    assert (declined.is_accepted, declined.cohort) == (False, None)
    accepted = screening.decide(
        CANDIDATE, True, cohort="train", reason="after a talk", by=owner, now=desk.now + timedelta(days=1)
    )
    assert accepted.report["rankings"]["value"] == 1.0
    assert accepted.report["cut_offs"] == {"flags": 0.75, "rankings": 0.75, "demonstrations": 6.0}
    assert [one.id for one in screening.decisions(CANDIDATE)] == [accepted.id, declined.id]
    assert {one.id: one.cohort for one in desk.store.labelers()}[CANDIDATE] == "train"
    assert [(one.labeler, one.cohort) for one in screening.candidates()] == [
        (CANDIDATE, "train"),
        ("screening-bob", "screening"),
    ]
    for cohort, said in (("train", "no candidate"),):
        with pytest.raises(ValueError, match=said):
            screening.decide(CANDIDATE, True, cohort=cohort, reason="again", **how)
    for is_accepted, cohort, said in (
        (True, None, "cohort None"),
        (True, "screening", "cohort"),
        (False, "train", "declined"),
    ):
        with pytest.raises(ValueError, match=said):
            screening.decide("screening-bob", is_accepted, cohort=cohort, reason="r", **how)
    events = [event.action for event in desk.store.audit.events(object_id=CANDIDATE)]
    assert events == ["labeler.decide", "labeler.decide"]


def test_what_a_candidate_judged_never_becomes_training_data(desk, owner, tmp_path):
    open_gold(desk, owner)
    judge(desk, "screening", CANDIDATE, dict.fromkeys(("train prompt 0", "train prompt 1"), "0>1>2"))
    desk.store.screening.decide(CANDIDATE, True, cohort="train", reason="good", by=owner, now=desk.now)
    path = tmp_path / "r.jsonl"
    frozen = freeze_rankings(desk.store, ["screening"], cohorts=frozenset({"train"}), purpose="train", path=path)
    assert frozen.num_rows == 0
    assert frozen.dropped == {"task of cohort screening": 2}


def test_gold_has_versions_and_the_newest_counts(desk, owner):
    open_gold(desk, owner, 1)
    (task,) = desk.store.screening.gold_tasks("screening")
    assert (task.gold, task.purpose, task.num_submitted) == (None, "screening", 0)
    set_gold(desk, owner, "0>1>2")
    set_gold(desk, owner, "0>1>2")  # says nothing new
    set_gold(desk, owner, "2>1>0")
    (task,) = desk.store.screening.gold_tasks("screening")
    assert task.gold is not None
    assert (task.gold.version, task.gold.tiers[0]) == (2, (task.completions[2].id,))
    first = desk.store.screening.gold(task.id, 1)
    assert first is not None
    assert first.tiers == task.gold.tiers[::-1]
    assert desk.store.screening.gold_tasks("calibration") == []
    judge(desk, "screening", CANDIDATE, {"train prompt 0": "2>1>0"})
    report = desk.store.screening.report(CANDIDATE)
    assert report.rankings is not None
    assert report.rankings.value == 1.0


def test_gold_that_says_nothing_or_something_else_is_refused(desk, owner):
    open_gold(desk, owner, 1)
    (task,) = desk.store.screening.gold_tasks()
    a, b, c = (completion.id for completion in task.completions)
    cases = [
        (GoldForm((), {}, ""), "needs an order"),
        (GoldForm(((a,), (b,)), {}, ""), "is not ranked"),
        (GoldForm((), {"x": {}}, ""), "completion x was not shown"),
        (GoldForm(((a, b, c),), {a: {"rude": True}}, ""), "flag 'rude'"),
    ]
    for form, said in cases:
        with pytest.raises(ValueError, match=said):
            desk.store.screening.set_gold(task.id, form, by=owner, now=desk.now)
    desk.ranking()
    work = desk.claim("ranking", "train-ann")
    with pytest.raises(ValueError, match="no comparison of screening"):
        desk.store.screening.set_gold(work.task_id, GoldForm(((a, b, c),), {}, ""), by=owner, now=desk.now)


def test_sets_open_for_more_people_later(desk, owner):
    assert open_gold(desk, owner, 1, people=1) == 1
    assert open_gold(desk, owner, 2, people=2) == 1
    for name in ("screening-ann", "screening-bob"):
        assert len(judge(desk, "screening", name, dict.fromkeys(("train prompt 0", "train prompt 1"), "0>1>2"))) == 2
    for purpose, cohort in (("screening", "train"), ("calibration", "screening")):
        with pytest.raises(ValueError, match=f"cohort '{cohort}': {purpose}"):
            open_gold(desk, owner, purpose=purpose, cohort=cohort)


def test_a_file_of_gold_opens_tasks_once(desk, owner, tmp_path):
    path = tmp_path / "gold.jsonl"
    rows = [
        {"prompt": "Who?", "completions": ["me", "you", "she"], "tiers": [[2], [0, 1]], "why": "kind"},
        {"prompt": "What?", "completions": ["this", "that"], "flags": [{"violent_content": True}, {}]},
        {"prompt": "Write about loss."},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = {"purpose": "screening", "cohort": "screening", "num_people": 2, "by": owner, "now": desk.now}
    imported = desk.store.screening.import_sets(path, **common)
    assert (imported.num_read, imported.num_kept) == (3, 3)
    again = desk.store.screening.import_sets(path, **common)
    assert (again.num_kept, again.dropped) == (0, {"open already": 3})
    tasks = {task.prompt.text: task for task in desk.store.screening.gold_tasks()}
    who = tasks["Who?"]
    text_of = {completion.id: completion.text for completion in who.completions}
    assert who.gold is not None
    assert [{text_of[key] for key in tier} for tier in who.gold.tiers] == [{"she"}, {"me", "you"}]
    assert (who.gold.why, who.gold.version) == ("kind", 1)
    what = tasks["What?"]
    assert what.gold is not None
    assert what.gold.flags[what.completions[0].id] == dict.fromkeys(FLAGS) | {"violent_content": True}
    assert (tasks["Write about loss."].kind, tasks["Write about loss."].gold) == ("demonstrate", None)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "p", "completions": ["a"]}, "two or more different"),
        ({"prompt": "p", "completions": ["a", "a"]}, "two or more different"),
        ({"prompt": "p", "completions": ["a", "b"], "tiers": [[0], [2]]}, "positions 0 to 1"),
        ({"prompt": "p", "completions": ["a", "b"], "tiers": [0, 1]}, "positions 0 to 1"),
        ({"prompt": "p", "completions": ["a", "b"], "flags": [{}]}, "1 objects of flags for 2"),
        ({"prompt": 3}, "must be text"),
        ({"prompt": "p", "chosen": "a"}, "field 'chosen'"),
    ],
)
@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_line_that_is_no_good_is_named_and_nothing_is_kept(desk, owner, tmp_path, row, said):
    path = tmp_path / "gold.jsonl"
    path.write_text(json.dumps({"prompt": "fine"}) + "\n" + json.dumps(row) + "\n")
    common = {"purpose": "screening", "cohort": "screening", "num_people": 2, "by": owner, "now": desk.now}
    with pytest.raises(ValueError, match=f"row 2: .*{said}"):
        desk.store.screening.import_sets(path, **common)
    assert desk.store.screening.gold_tasks() == []


def test_drift_is_the_recent_calibration_against_the_earlier(desk, owner):
    open_gold(desk, owner, 40, 2, purpose="calibration", cohort="train")
    set_gold(desk, owner, "0>1")
    names = [prompt.text for prompt in desk.prompts(40)]
    good, bad = dict.fromkeys(names, "0>1"), dict.fromkeys(names, "0>1")
    # Tasks come in the order in which they were opened: the last twenty of them turn round.
    bad |= dict.fromkeys(names[20:], "1>0")
    for labeler, orders in (("train-ann", good), ("train-bob", bad)):
        for second, _ in enumerate(names):
            assignment = desk.claim("calibration", labeler, second)
            tiers = tiers_of(orders[assignment.prompt.text], assignment.completions)
            desk.rank(assignment, after=second + 0.5, tiers=tiers)
    screening = desk.store.screening
    bob = screening.calibration("train-bob", last=20)
    assert bob.recent is not None and bob.earlier is not None and bob.change is not None  # noqa: PT018
    assert (bob.num_gold, bob.recent.value, bob.earlier.value, bob.change.value) == (40, 0.0, 1.0, -1.0)
    # 0 and 20 of 20: Wilson's ends are z^2 / (20 + z^2) from theirs, .16113; Newcombe: -1 + sqrt(2 * .16113^2).
    assert bob.change.high == pytest.approx(-1 + 0.161125 * 2**0.5, abs=1e-5)
    assert [one.labeler for one in screening.drifting(last=20)] == ["train-bob"]
    ann = screening.calibration("train-ann", last=20)
    assert not ann.is_drifting
    assert ann.change is not None
    assert ann.change.low < 0 < ann.change.high
    few = screening.calibration("train-bob", last=40)
    assert (few.earlier, few.change, few.is_drifting) == (None, None, False)


def test_feedback_comes_after_calibration_and_never_after_screening(desk, owner):
    open_gold(desk, owner, 1, purpose="calibration", cohort="train")
    open_gold(desk, owner, 1)
    set_gold(desk, owner, "0>1=2", why="shorter is kinder")
    calibrated = judge(desk, "calibration", "train-ann", {"train prompt 0": "1>0>2"})["train prompt 0"]
    screened = judge(desk, "screening", CANDIDATE, {"train prompt 0": "1>0>2"})["train prompt 0"]
    feedback = desk.store.screening.feedback(calibrated)
    assert feedback is not None
    assert feedback.agreement is not None
    assert (feedback.gold.why, feedback.agreement.value, feedback.agreement.n) == ("shorter is kinder", 0.5, 2)
    assert desk.store.screening.feedback(screened) is None
    assert desk.store.screening.feedback("submission-x") is None


def test_cut_offs_are_the_papers_until_they_are_set(desk, owner):
    assert desk.store.screening.cut_offs() == CutOffs(flags=0.75, rankings=0.75, demonstrations=6.0)
    mine = CutOffs(flags=0.6, rankings=0.7, demonstrations=5.0)
    desk.store.screening.set_cut_offs(mine, by=owner, now=desk.now)
    assert desk.store.screening.cut_offs() == mine
    assert desk.store.screening.report(CANDIDATE).cut_offs == mine
    assert [event.actor for event in desk.store.audit.events(action="setting")] == [owner]


def test_a_revised_demonstration_is_graded_anew(desk, owner):
    screening = desk.store.screening
    screening.open_writing([desk.prompts(1)[0].id], num_people=1, by=owner, now=desk.now)
    first = desk.write(desk.claim("screening-writing", CANDIDATE), "rash")
    screening.grade(first, 2, by=owner, now=desk.now)
    second = desk.store.revise_demonstration(first, "gentle", now=desk.later(90), idempotency_key="r")
    assert [one.submission_id for one in screening.to_grade(owner)] == [second]
    report = screening.report(CANDIDATE)
    assert (report.grade, report.num_to_grade, report.num_submitted) == (None, 1, 1)
    assert [one.num_to_grade for one in screening.candidates()] == [1, 0]
    screening.grade(second, 6, by=owner, now=desk.now)
    regraded = screening.report(CANDIDATE).grade
    assert regraded is not None
    assert (regraded.value, regraded.n) == (6.0, 1)
