"""What the app acknowledged beside what its database holds: nothing lost, nothing twice, no task over its overlap."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import create_engine, text

from instructloop.store.engine import database_url
from instructloop.web.answers import tiers_of
from instructloop.web.browser import Browser

AUTOSAVE_SECONDS = 1.0
"""The page sends a draft so long after a change (static/work/draft.js)."""


@dataclass
class Sent:
    """One draft on its way: when it was first sent, and when the app said that it has it."""

    started: float
    acknowledged: float | None = None


@dataclass
class Record:
    """What all browsers sent and what they were told; times are of `time.monotonic`."""

    drafts: dict[tuple[str, int], Sent] = field(default_factory=dict[tuple[str, int], Sent])  # by assignment and rev
    receipts: dict[str, str] = field(default_factory=dict[str, str])  # assignment -> submission
    answers: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])  # assignment -> as sent
    requests: list[tuple[str, float, int]] = field(default_factory=list[tuple[str, float, int]])
    lock: Lock = field(default_factory=Lock)

    def watch(self, method: str, path: str, seconds: float, status: int) -> None:
        """Note one answer: what was asked, how long it took, the status."""
        with self.lock:
            self.requests.append((kind_of(method, path), seconds, status))


def kind_of(method: str, path: str) -> str:
    """Return the name of a request: next, page, draft, submit, skip, or other."""
    last = path.partition("?")[0].rpartition("/")[2]
    if path.startswith("/api/"):
        return last if last in ("next", "draft", "submit", "skip") else "other"
    return "page" if method == "GET" and path.startswith("/work/") else "other"


class RecordedBrowser(Browser):
    """A browser that writes down what it sends and what it is told."""

    def __init__(self, url: str, record: Record):
        super().__init__(url, timeout_seconds=300.0, watch=record.watch)
        self.record = record

    def call(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Send JSON, as a browser does, and note drafts and submissions."""
        kind, assignment = kind_of(method, path), path.split("/")[-2]
        record = self.record
        with record.lock:
            if kind == "draft":
                sent = record.drafts.setdefault((assignment, body["rev"]), Sent(time.monotonic()))
            elif kind == "submit":
                record.answers[assignment] = dict(body["answer"])
        said = super().call(method, path, body)
        with record.lock:
            if kind == "draft":
                sent.acknowledged = time.monotonic()
            elif kind == "submit":
                assert said is not None
                record.receipts[assignment] = said["receipt"]
        return said


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database holds."""

    submissions: dict[str, list[str]]  # assignment -> submissions
    contents: dict[str, Any]  # assignment -> tiers of a comparison, text of a demonstration
    drafts: dict[str, int]  # assignment -> rev
    tasks: list[tuple[str, int, int, int, int]]  # id, overlap, held, submitted by its counter, accepted assignments
    states: dict[str, int]  # state of an assignment -> how many


def stored(place: str | Path) -> Stored:
    """Read a database as it is, past the app."""
    engine = create_engine(database_url(place))
    with engine.connect() as connection:

        def rows(query: str) -> list[Any]:
            return [tuple(row) for row in connection.execute(text(query))]

        submissions = defaultdict[str, list[str]](list)
        for assignment, submission in rows("SELECT assignment_id, id FROM submission"):
            submissions[assignment].append(submission)
        texts = rows("SELECT assignment_id, text FROM demonstration JOIN submission ON id = submission_id")
        tiers = rows("SELECT assignment_id, tiers FROM comparison JOIN submission ON id = submission_id")
        contents = dict(texts) | {a: json.loads(t) if isinstance(t, str) else t for a, t in tiers}
        accepted = Counter(row[0] for row in rows("SELECT task_id FROM assignment WHERE state = 'submitted'"))
        tasks = rows("SELECT id, overlap, num_held, num_submitted FROM task")
        found = Stored(
            submissions=dict(submissions),
            contents=contents,
            drafts=dict(rows("SELECT assignment_id, rev FROM draft")),
            tasks=[(*task, accepted[task[0]]) for task in tasks],
            states=dict(rows("SELECT state, count(*) FROM assignment GROUP BY state")),
        )
    engine.dispose()
    return found


def problems(found: Stored, record: Record, *, is_over: bool) -> list[str]:
    """Return what is wrong, in words; `is_over`: all work is done, so each stored submission was acknowledged too."""
    wrong = [
        f"{assignment}: acknowledged as {receipt}, stored are {found.submissions.get(assignment, [])}"
        for assignment, receipt in record.receipts.items()
        if found.submissions.get(assignment) != [receipt]
    ]
    for assignment, content in found.contents.items():
        answer = record.answers.get(assignment)
        if answer is None or content != _content(answer):
            wrong.append(f"{assignment}: what is stored is not what was sent")
    for task, overlap, held, submitted, accepted in found.tasks:
        if accepted > overlap or submitted != accepted or held > overlap:
            wrong.append(f"{task}: overlap {overlap}, held {held}, counted {submitted}, accepted {accepted}")
    if number := found.states.get("surplus", 0):
        wrong.append(f"{number} judgements are surplus")
    if is_over:
        unheard = found.submissions.keys() - record.receipts.keys()
        wrong += [f"{assignment}: stored, and nobody was told" for assignment in sorted(unheard)]
        if found.drafts or found.states.get("leased", 0):
            wrong.append(f"{len(found.drafts)} drafts and {found.states.get('leased', 0)} leases are left over")
    return wrong


def _content(answer: Mapping[str, Any]) -> Any:
    """Return what the store keeps of an answer that was sent."""
    return answer["text"] if "text" in answer else [list(tier) for tier in tiers_of(answer["ranks"])]


def lost_drafts(found: Stored, record: Record) -> list[str]:
    """Return drafts that the app said it has and the database has not: neither they, nor a newer one, nor an answer."""
    newest = dict[str, int]()
    for (assignment, rev), sent in record.drafts.items():
        if sent.acknowledged is not None:
            newest[assignment] = max(rev, newest.get(assignment, 0))
    return [
        f"{assignment}: draft {rev} was acknowledged, {found.drafts.get(assignment)} is stored"
        for assignment, rev in newest.items()
        if assignment not in found.submissions and found.drafts.get(assignment, 0) < rev
    ]


def oldest_unsaved_seconds(found: Stored, record: Record, *, up_since: float, killed: float) -> float:
    """Return how old the oldest typing is that a kill took from the database; the browser has it still.

    Typing precedes its sending by the page's autosave delay. What was sent while the app was away does not count.
    """
    ages = [
        killed - sent.started + AUTOSAVE_SECONDS
        for (assignment, rev), sent in record.drafts.items()
        if up_since <= sent.started <= killed
        and assignment not in found.submissions
        and found.drafts.get(assignment, 0) < rev
    ]
    return max(ages, default=0.0)
