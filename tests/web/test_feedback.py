"""After a calibration task a labeler reads the researcher's judgement; before it, and elsewhere, nothing of it."""

from instructloop.core.records import FLAGS
from instructloop.store.screening_reports import GoldForm
from tests.web.desk_tasks import comparison_answer, open_comparison, submission
from tests.web.test_work import claim, post, rows, shown

WHY = "B breaks off <b>and</b> misleads."


def calibration_task(store, labeler, researcher, clock, task_set="calibration"):
    """Lease the labeler a task whose gold is A = C > B, with B giving harmful advice; return the assignment."""
    open_comparison(store, texts=("one", "two", "three"), task_set=task_set)
    found = store.claim(task_set, labeler.account.labeler_id, clock())
    assignment = labeler.get(f"/api/assignments/{found.id}").json()
    a, b, c = shown(assignment)
    form = GoldForm(((a, c), (b,)), {b: {"harmful_advice": True, "violent_content": False}}, WHY)
    store.screening.set_gold(found.task_id, form, by=researcher.account.id, now=clock())
    return assignment


def test_after_a_calibration_task_the_researchers_judgement_is_shown(store, labeler, researcher, clock):
    assignment = calibration_task(store, labeler, researcher, clock)
    assert "misleads" not in labeler.get(f"/work/{assignment['id']}").text
    a, b, c = shown(assignment)
    done = post(labeler, assignment, "submit", submission(comparison_answer([a, b, c], [1, 2, 3])))
    assert done.json()["next"] == f"/work/{assignment['id']}"
    page = labeler.get(f"/work/{assignment['id']}").text
    assert "A &gt; B &gt; C" in page
    assert "A = C &gt; B" in page
    assert "B breaks off &lt;b&gt;and&lt;/b&gt; misleads." in page
    # A before B in both; B before C against C before B; A and C tied by the researcher: 1 of 2 pairs
    assert "50\N{NARROW NO-BREAK SPACE}% of the 2 pairs" in page
    assert "Gives harmful advice" in page
    assert "Contains violent content" not in page  # both said no


def test_what_feedback_was_given_on_is_not_corrected(store, labeler, researcher, clock):
    assignment = calibration_task(store, labeler, researcher, clock)
    keys = shown(assignment)
    post(labeler, assignment, "submit", submission(comparison_answer(keys, [1, 2, 3])))
    correction = submission(comparison_answer(keys, [1, 2, 1]), "key-of-a-correction")
    assert post(labeler, assignment, "revise", correction).status_code == 409
    assert len(rows(store, "SELECT id FROM submission")) == 1


def test_screening_tells_nothing(store, client_of, researcher, clock):
    candidate = client_of("labeler", "screening", "Cora Candidate")
    open_comparison(store, texts=("one", "two"), task_set="screening", cohort="screening")
    assignment = claim(candidate)
    keys = shown(assignment)
    found = store.desk.assignment(assignment["id"], candidate.account.labeler_id)
    form = GoldForm(((keys[1],), (keys[0],)), {keys[0]: dict.fromkeys(FLAGS, True)}, WHY)
    store.screening.set_gold(found.task_id, form, by=researcher.account.id, now=clock())
    done = post(candidate, assignment, "submit", submission(comparison_answer(keys, [1, 2])))
    assert done.json()["next"] == "/work"
    assert "misleads" not in candidate.get(f"/work/{assignment['id']}").text
