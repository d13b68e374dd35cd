"""Researchers' forms: tasks, targets, freezing, exports, adjudication, grades, gold, decisions; then the store."""

import hashlib
import json

import pytest

from instructloop.core.records import FLAGS
from instructloop.store import ComparisonForm, freeze_rankings
from instructloop.store.reports import ExportOptions
from instructloop.web.exports import worker
from tests.web.desk_tasks import open_comparison, open_demonstrations


def judge(store, clock, account, *, is_reversed=False, task_set="ranking"):
    """Let an account rank what the set asks, by id or the other way round."""
    task = store.claim(task_set, account.labeler_id, clock())
    ids = sorted((one.id for one in task.completions), reverse=is_reversed)
    form = ComparisonForm(
        dict.fromkeys(ids, 4), {key: dict.fromkeys(FLAGS, False) for key in ids}, [[key] for key in ids]
    )
    store.submit_comparison(task.id, form, now=clock(), idempotency_key="first")
    return ids


@pytest.fixture
def disputed(store, clock, labeler, client_of):
    """One comparison of three completions that two labelers ordered the opposite way; its task's id."""
    open_comparison(store, texts=("Paris.", "Lyon.", "Rome."))
    judge(store, clock, labeler.account)
    judge(store, clock, client_of("labeler", "train", "Lars").account, is_reversed=True)
    return store.research.conflicts().rows[0].task_id


# Conflicts


def test_an_adjudication_is_kept_beside_the_judgements(researcher, store, disputed):
    ids = [one.id for one in store.research.conflict(disputed).completions]
    ranks = {f"rank-{key}": rank for key, rank in zip(ids, ("2", "1", "2"), strict=True)}
    answer = researcher.send_form(f"/research/conflicts/{disputed}", reason="It is asked for one city.", **ranks)
    assert answer.status_code == 303
    after = store.research.conflict(disputed)
    assert [set(tier) for tier in after.adjudications[0].tiers] == [{ids[1]}, {ids[0], ids[2]}]
    assert after.adjudications[0].reason == "It is asked for one city."
    assert after.adjudications[0].account_id == researcher.account.id
    assert len(after.judgements) == 2


def test_an_adjudication_without_a_rank_or_a_reason_keeps_the_form(researcher, store, disputed):
    ids = [one.id for one in store.research.conflict(disputed).completions]
    some = {f"rank-{key}": "1" for key in ids[:2]}
    page = researcher.send_form(f"/research/conflicts/{disputed}", reason="My long reason", **some)
    assert page.status_code == 400
    assert "1 of 3 completions have no rank" in page.text
    assert "My long reason" in page.text
    assert page.text.count("selected") == 2
    every = {f"rank-{key}": "1" for key in ids}
    assert researcher.send_form(f"/research/conflicts/{disputed}", reason="  ", **every).status_code == 400
    assert store.research.conflict(disputed).adjudications == ()


def test_auditors_and_labelers_settle_nothing(auditor, labeler, store, disputed):
    ids = [one.id for one in store.research.conflict(disputed).completions]
    ranks = {f"rank-{key}": "1" for key in ids}
    page = auditor.get(f"/research/conflicts/{disputed}")
    assert page.status_code == 200
    assert "Keep this order" not in page.text
    assert auditor.send_form(f"/research/conflicts/{disputed}", reason="x", **ranks).status_code == 403
    assert labeler.get(f"/research/conflicts/{disputed}").status_code == 403
    assert store.research.conflict(disputed).adjudications == ()


def test_no_page_of_researchers_names_the_policy_before_they_judge(researcher, disputed):
    assert "policy-" not in researcher.get(f"/research/conflicts/{disputed}").text


# Tasks


def test_a_target_is_set_and_taken_back(researcher, store):
    open_demonstrations(store, 4)
    assert researcher.send_form("/research/tasks/target", task_set="writing", wanted="3").status_code == 303
    assert store.research.targets() == {"writing": 3}
    assert researcher.send_form("/research/tasks/target", task_set="writing", wanted="0").status_code == 400
    assert researcher.send_form("/research/tasks/target", task_set="other", wanted="3").status_code == 404
    assert researcher.send_form("/research/tasks/target", task_set="writing", wanted="").status_code == 303
    assert store.research.targets() == {}


def test_own_tasks_are_opened_on_prompts_that_nobody_was_asked_about(researcher, store):
    open_demonstrations(store, 2)
    open_comparison(store)  # a third prompt, without a demonstration
    assert "<b>1</b> prompts without a demonstration" in researcher.get("/research/tasks/open").text
    fields = {"kind": "demonstrate", "cohort": "train", "name": "pilot-1", "number": 5, "overlap": 2}
    assert researcher.send_form("/research/tasks/open", **fields).status_code == 303
    (item,) = store.items("pilot-1")
    assert item.prompt_id == store.items("ranking")[0].prompt_id
    assert store.progress("pilot-1").num_judgements_wanted == 2
    again = researcher.send_form("/research/tasks/open", **(fields | {"name": "pilot-2"}))
    assert again.status_code == 400


@pytest.mark.parametrize("name", ["ranking", "Two Words", "../x", ""])
def test_a_set_of_tasks_needs_a_name_of_its_own(researcher, store, name):
    open_comparison(store)
    fields = {"kind": "demonstrate", "cohort": "train", "name": name, "number": 1}
    assert researcher.send_form("/research/tasks/open", **fields).status_code == 400
    assert len(store.task_sets()) == 1


# Freezing and exports


def test_freezing_writes_the_bytes_that_the_loop_freezes(researcher, app, store, disputed, tmp_path):
    answer = researcher.send_form("/research/tasks/freeze", task_set="ranking", cohort="train")
    assert answer.status_code == 303
    worker(app).wait()
    page = researcher.get(answer.headers["location"])
    loops = freeze_rankings(
        store, ["ranking"], cohorts=frozenset({"train"}), purpose="train", path=tmp_path / "loop.jsonl"
    )
    assert loops.num_rows == 2
    assert loops.sha256 in page.text
    file = researcher.get(f"{answer.headers['location']}/file")
    assert hashlib.sha256(file.content).hexdigest() == loops.sha256
    assert file.headers["content-disposition"].startswith("attachment")


def test_a_set_that_nobody_worked_on_is_not_frozen(researcher, store):
    open_demonstrations(store, 1)
    assert researcher.send_form("/research/tasks/freeze", task_set="writing", cohort="train").status_code == 400
    assert researcher.send_form("/research/tasks/freeze", task_set="writing", cohort="heldout").status_code == 404
    assert store.exports.jobs() == []


def test_an_export_is_made_beside_the_request_and_downloaded(researcher, auditor, app, store, labeler, disputed):
    answer = researcher.send_form("/exports", kind="rankings", format="jsonl")
    where = answer.headers["location"]
    worker(app).wait()
    assert researcher.get(f"{where}/state").json() == {"state": "done"}
    file = researcher.get(f"{where}/file")
    rows = [json.loads(line) for line in file.content.splitlines()]
    assert len(rows) == 2
    assert labeler.account.labeler_id not in file.text
    manifest = auditor.get(f"{where}/manifest").json()
    assert manifest["sha256"] == hashlib.sha256(file.content).hexdigest()
    assert auditor.get(where).status_code == 200
    assert auditor.get(f"{where}/file").status_code == 403
    assert labeler.get(f"{where}/file").status_code == 403
    (job,) = store.exports.jobs()
    assert job.created_by == researcher.account.id


def test_an_export_that_fails_says_why(researcher, app, store, disputed, monkeypatch):
    def full(*_args, **_more):
        raise OSError(28, "disk is full")

    monkeypatch.setattr("instructloop.web.exports.export", full)
    where = researcher.send_form("/exports", kind="judgements").headers["location"]
    worker(app).wait()
    page = researcher.get(where)
    assert "It failed" in page.text
    assert "disk is full" in page.text
    assert researcher.get(f"{where}/file").status_code == 404


def test_exports_of_a_dead_process_are_failed_when_the_next_begins(owner, app, store, clock, disputed):
    job = store.exports.create("judgements", ExportOptions(), by=owner.account.id, now=clock())
    store.exports.start(job.id)
    worker(app)
    assert store.exports.job(job.id).state == "failed"


def test_unknown_exports_and_kinds_are_refused(researcher, store):
    assert researcher.get("/exports/nothing").status_code == 404
    assert researcher.get("/exports/nothing/file").status_code == 404
    assert researcher.send_form("/exports", kind="everything").status_code == 400
    assert researcher.send_form("/exports", kind="frozen").status_code == 400
    assert store.exports.jobs() == []


# Screening


@pytest.fixture
def candidate(client_of):
    return client_of("labeler", "screening", "Cara Candidate")


def test_cut_offs_are_set_within_their_scales(researcher, store):
    good = {"flags": "0.8", "rankings": "0.7", "demonstrations": "5.5"}
    assert researcher.send_form("/research/screening/cut-offs", **good).status_code == 303
    kept = store.screening.cut_offs()
    assert (kept.flags, kept.rankings, kept.demonstrations) == (0.8, 0.7, 5.5)
    for wrong in ({"flags": "1.2"}, {"demonstrations": "8"}, {"rankings": "nan"}):
        assert researcher.send_form("/research/screening/cut-offs", **(good | wrong)).status_code == 400
    assert store.screening.cut_offs() == kept


def test_a_decision_wants_a_reason_and_moves_the_candidate(researcher, candidate, store):
    who = candidate.account.labeler_id
    path = f"/research/screening/candidates/{who}"
    assert researcher.send_form(path, decision="accept", cohort="heldout", reason=" ").status_code == 400
    assert store.screening.decisions(who) == []
    good = {"decision": "accept", "cohort": "heldout", "reason": "Good on all."}
    assert researcher.send_form(path, **good).status_code == 303
    (kept,) = store.screening.decisions(who)
    assert (kept.is_accepted, kept.cohort, kept.reason) == (True, "heldout", "Good on all.")
    assert kept.decided_by == researcher.account.id
    assert store.accounts.account(candidate.account.id).cohort == "heldout"


def test_nobody_decides_on_who_is_no_candidate(researcher, auditor, labeler, candidate, store):
    fields = {"decision": "decline", "reason": "x"}
    path = "/research/screening/candidates"
    assert researcher.send_form(f"{path}/{labeler.account.labeler_id}", **fields).status_code == 404
    assert auditor.send_form(f"{path}/{candidate.account.labeler_id}", **fields).status_code == 403
    assert store.screening.decisions(candidate.account.labeler_id) == []


def test_gold_is_opened_from_tasks_that_are_there_and_kept_in_versions(researcher, store, disputed):
    fields = {"purpose": "screening", "task_set": "ranking", "number": 5, "num_people": 3, "cohort": "screening"}
    assert researcher.send_form("/research/screening/gold/open", **fields).status_code == 303
    (task,) = store.screening.gold_tasks("screening")
    ids = [one.id for one in task.completions]
    path = f"/research/screening/gold/{task.id}"
    assert researcher.send_form(path, why="nothing said").status_code == 400
    answers = {f"rank-{key}": str(rank) for rank, key in enumerate(ids, 1)} | {f"flag-{ids[0]}:violent_content": "yes"}
    assert researcher.send_form(path, why="The first is right.", **answers).status_code == 303
    kept = store.screening.gold(task.id)
    assert (kept.version, kept.why) == (1, "The first is right.")
    assert kept.tiers == tuple((key,) for key in ids)
    assert kept.flags[ids[0]]["violent_content"] is True
    assert kept.flags[ids[1]]["violent_content"] is None
    assert researcher.send_form(path, why="", **(answers | {f"rank-{ids[0]}": "2"})).status_code == 303
    assert store.screening.gold(task.id).version == 2
    assert store.screening.gold(task.id, 1).why == "The first is right."


def test_demonstrations_are_graded_without_a_name(researcher, candidate, store, clock):
    (asked,) = open_demonstrations(store, 1, task_set="other")
    store.screening.open_writing([asked.id], num_people=3, by=researcher.account.id, now=clock())
    task = store.claim("screening-writing", candidate.account.labeler_id, clock())
    done = store.submit_demonstration(task.id, "Rain, rain.", now=clock(), idempotency_key="first")
    page = researcher.get("/research/screening/grading").text
    assert "Rain, rain." in page
    assert "Cara Candidate" not in page
    assert candidate.account.labeler_id not in page
    path = f"/research/screening/grading/{done}"
    assert researcher.send_form(path, grade="8").status_code == 400
    assert researcher.send_form(path, grade="6").status_code == 303
    assert store.screening.to_grade(researcher.account.id) == []
    assert store.screening.report(candidate.account.labeler_id).grade.value == 6
    assert researcher.send_form("/research/screening/grading/nothing", grade="6").status_code == 404


# What is not there yet


def test_empty_pages_say_what_to_do_next(owner):
    for path, words in {
        "/research": "No tasks are open yet",
        "/research/tasks": "instructloop run",
        "/research/tasks/open": "Nothing to ask",
        "/research/agreement": "at least two people",
        "/research/labelers": "Invite",
        "/research/conflicts": "No conflicts",
        "/research/screening": "Open screening tasks",
        "/research/screening/grading": "All graded",
        "/research/screening/gold": "import your own",
        "/people": "Invite the first labeler",
        "/exports": "No export",
    }.items():
        page = owner.get(path)
        assert page.status_code == 200, path
        assert words in page.text, path
