"""Text of people and models that would run as code: planted in every field, then every page is read for it."""

from html.parser import HTMLParser

import pytest

from instructloop.core.records import FLAGS
from instructloop.store import ComparisonForm
from instructloop.store.screening_reports import GoldForm
from tests.web.conftest import PASSWORD_HASH
from tests.web.desk_tasks import open_comparison, open_demonstrations

CODE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>[a](javascript:alert(3)){{ 7 * 7 }}</textarea>"
PLACES = ("prompt", "completion", "note", "name", "skip", "topic", "reason", "why", "instruction", "invite", "write")


def hostile(place: str) -> str:
    """Code that says where it was planted."""
    return f"at-{place} {CODE}"


class Reader(HTMLParser):
    """Collects what a browser would run: handlers, inline scripts and styles, addresses that are code."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[str] = []
        self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            is_code = (value or "").strip().lower().startswith(("javascript:", "data:text"))
            if name.startswith("on") or name == "style" or is_code:
                self.runs.append(f"<{tag} {name}={value}>")
        if tag in ("img", "iframe", "object", "embed", "style"):
            self.runs.append(f"<{tag}>")
        self._in_script = tag == "script"

    def handle_data(self, data: str) -> None:
        if self._in_script and data.strip():
            self.runs.append(f"script: {data[:40]}")

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False


def what_runs(page: str) -> list[str]:
    reader = Reader()
    reader.feed(page)
    return reader.runs


def test_the_reader_of_this_test_finds_code():
    assert len(what_runs("<p onclick=x><script>y</script><img src=z><a href=' javascript:q'>")) == 4


@pytest.fixture
def planted(store, clock, owner, client_of):
    """A store with hostile text wherever people or models can write; returns the ids that addresses need."""
    _, token = store.accounts.invite("labeler", "train", hostile("invite"), None, clock())
    person = store.accounts.sign_up(token, hostile("name"), "evil@example.org", PASSWORD_HASH, clock())
    store.accounts.set_profile(person.id, ("en",), hostile("topic"), {})
    store.accounts.invite("labeler", "train", hostile("invite"), None, clock())
    friend = client_of("labeler", "train", "Lea Labeler").account
    texts = tuple(f"{i} {hostile('completion')}" for i in range(3))
    open_comparison(store, texts=texts, prompt=hostile("prompt"), overlap=2)
    for account, is_reversed in ((person, False), (friend, True)):
        task = store.claim("ranking", account.labeler_id, clock())
        ids = sorted(one.id for one in task.completions)
        form = ComparisonForm(
            dict.fromkeys(ids, 3),
            {key: dict.fromkeys(FLAGS, False) for key in ids},
            [[key] for key in (ids[::-1] if is_reversed else ids)],
            dict.fromkeys(ids, hostile("note")),
        )
        store.submit_comparison(task.id, form, now=clock(), idempotency_key="first")
    open_demonstrations(store, 4)
    written = store.claim("writing", person.labeler_id, clock())
    store.submit_demonstration(written.id, hostile("write"), now=clock(), idempotency_key="first")
    skipped = store.claim("writing", person.labeler_id, clock())
    store.skip(skipped.id, hostile("skip"), clock())
    store.desk.add_instruction("compare", hostile("instruction"), owner.account.id, clock())

    found = store.research.conflicts(below=1.1)
    conflict = found.rows[0].task_id
    tiers = [[one.id] for one in store.research.conflict(conflict).completions]
    store.research.adjudicate(conflict, tiers, hostile("reason"), by=owner.account.id, now=clock())
    item = store.items("ranking")[0]
    by = {"by": owner.account.id, "now": clock()}
    store.screening.open_sets([item], purpose="screening", cohort="screening", num_people=2, **by)
    gold = store.screening.gold_tasks()[0]
    store.screening.set_gold(gold.id, GoldForm(tuple((key,) for key in item.completion_ids), {}, hostile("why")), **by)
    _, token = store.accounts.invite("labeler", "screening", "", None, clock())
    candidate = store.accounts.sign_up(token, hostile("name"), "evil2@example.org", PASSWORD_HASH, clock())
    store.accounts.set_profile(candidate.id, ("en",), hostile("topic"), {})
    store.screening.decide(candidate.labeler_id, False, cohort=None, reason=hostile("reason"), **by)
    return {
        "account_id": person.id,
        "labeler_id": person.labeler_id,
        "candidate": candidate.labeler_id,
        "task_id": conflict,
        "gold": gold.id,
    }


def addresses(ids: dict[str, str]) -> list[str]:
    return [
        "/",
        "/research",
        "/research/tasks",
        "/research/tasks/open",
        "/research/tasks/open?kind=compare",
        "/research/agreement",
        "/research/labelers",
        f"/research/labelers/{ids['labeler_id']}",
        "/research/conflicts",
        f"/research/conflicts/{ids['task_id']}",
        "/research/search?q=alert",
        "/research/search?q=%3Cscript%3Ealert%28%22%27",
        "/research/screening",
        f"/research/screening/candidates/{ids['candidate']}",
        "/research/screening/grading",
        "/research/screening/gold",
        f"/research/screening/gold/{ids['gold']}",
        "/research/instructions",
        "/research/instructions/compare",
        "/people",
        f"/people/{ids['account_id']}",
        "/people/invite",
        "/audit",
        "/audit?action=%22%3E%3Cscript%3E",
        "/exports",
        "/exports?task_set=%22%3E%3Cscript%3E",
    ]


def test_hostile_text_is_shown_everywhere_and_runs_nowhere(owner, planted):
    seen: set[str] = set()
    for address in addresses(planted):
        page = owner.get(address)
        assert page.status_code == 200, (address, page.text[-600:])
        assert what_runs(page.text) == [], address
        assert "alert(1)</script>" not in page.text.replace("&lt;/script", ""), address
        seen |= {place for place in PLACES if f"at-{place} " in page.text}
    assert seen == set(PLACES)  # each kind was met on some page: what is nowhere shown would prove nothing


def test_a_draft_of_instructions_with_code_is_shown_as_text(owner):
    page = owner.send_form(
        "/research/instructions/compare", markdown=hostile("instruction"), action="preview", based_on=1
    )
    assert "at-instruction" in page.text
    assert what_runs(page.text) == []


def test_an_invitation_with_code_in_its_note_is_shown_as_text(owner):
    page = owner.send_form("/people/invite", role="labeler", cohort="train", note=hostile("invite"))
    assert page.status_code == 200
    assert what_runs(page.text) == []
