"""Simulated labelers at work in the app, a thread each: take a task, think, save drafts, submit, until all is done."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Condition, Event, Lock, Thread
from typing import Any, TypeVar

from instructloop.console import Track
from instructloop.core.records import Cohort
from instructloop.microworld.chance import uniform
from instructloop.microworld.judge import Judge
from instructloop.microworld.labelers import Pens, writers
from instructloop.microworld.opinions import Purpose, SimulatedLabeler
from instructloop.microworld.prompts import is_prompt
from instructloop.recipes.microworld_people import pens
from instructloop.simulated.tasks import Tasks, assignment_of, half_of
from instructloop.store import ComparisonForm, Store
from instructloop.web.answers import answer_of
from instructloop.web.browser import Browser, Refused, Unreachable

LATER = (429, 502, 503)  # the server asks to come again
NO_WORLD = "nobody of this world wrote this prompt"
PATIENCE_SECONDS = 60.0
LONGEST_PAUSE = 5.0
LONGEST_DELAY_SECONDS = 30.0
"""Before a task, at the pace of people: forty of them do not press a key in the same moment."""
Answer = str | ComparisonForm
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Visitor:
    """A simulated labeler who is signed in."""

    person: SimulatedLabeler
    labeler_id: str
    browser: Browser


class Handbook:
    """What each person would answer to each task: the opinions of `microworld.labelers.work`, by the store's tasks."""

    def __init__(self, store: Store, team: Sequence[SimulatedLabeler], judge: Judge, seed: int):
        self.store, self.team, self.judge, self.seed = store, team, judge, seed
        self.tasks = Tasks(store)
        cohorts = [[one for one in team if one.cohort == cohort] for cohort in {one.cohort for one in team}]
        self._writers = {one.id for cohort in cohorts for one in writers(cohort)}
        self._pens: dict[tuple[str, Cohort], Pens] = {}
        self._lock = Lock()

    def writes(self, person: SimulatedLabeler) -> bool:
        """Return whether a person is among their cohort's better writers, who alone write demonstrations."""
        return person.id in self._writers

    def answer(self, visitor: Visitor, shown: Mapping[str, Any]) -> tuple[Answer | None, str, float]:
        """Return the answer, None to skip; why it is skipped; and the seconds that a person would take."""
        if not is_prompt(self.judge.world, shown["prompt"]["text"]):
            return None, NO_WORLD, 10.0
        person = visitor.person
        task_set, task = self.tasks.find(shown, person.cohort, visitor.labeler_id)
        assignment, own = assignment_of(shown, task), self._pens_for(task_set, person.cohort)
        if reason := own.reason_to_skip(person, assignment):
            return None, reason, 10.0
        if assignment.kind == "demonstrate":
            text, seconds = own.text(person, assignment)
            return text, "", seconds
        form = own.form(person, assignment)
        return form, "", form.seconds or 0.0

    def _pens_for(self, task_set: str, cohort: Cohort) -> Pens:
        purpose: Purpose = "evaluation" if cohort == "heldout" else "train"
        with self._lock:  # held-out noise is measured once for a set
            if (task_set, cohort) not in self._pens:
                self._pens[task_set, cohort] = pens(
                    self.store, task_set, self.team, self.judge, self.seed, purpose=purpose
                )
            return self._pens[task_set, cohort]


@dataclass
class Shift:
    """The labelers of one app at work together; the same object is told to stop and says what was done."""

    handbook: Handbook
    progress: Track
    speed: float | None = None  # how many times as fast as people; None: without any pause
    patience_seconds: float = PATIENCE_SECONDS
    clock: Callable[[], float] = time.monotonic
    num_submitted: int = 0
    num_skipped: int = 0
    num_foreign: int = 0  # of these: prompts that nobody of this world wrote
    stop: Event = field(default_factory=Event)
    error: BaseException | None = None
    _room: Condition = field(default_factory=Condition)
    _num_freed: int = 0  # slots that became free: by a skip, another may have work again
    _num_idle: int = 0
    _times_seated: dict[str, int] = field(default_factory=dict[str, int])
    _num_at_work: int = 0

    def work(self, visitors: Sequence[Visitor]) -> None:
        """Let all work until the app has nothing for any of them; KeyboardInterrupt ends it after the running requests.

        An answer that the app refuses is raised when all have ended.
        """
        threads = [Thread(target=self._day, args=(visitor,), daemon=True) for visitor in visitors]
        self._num_at_work = len(threads)
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)
        except KeyboardInterrupt:
            self.end()
            for thread in threads:
                thread.join()
            raise
        if self.error is not None:
            raise self.error

    def end(self) -> None:
        """Tell everybody to leave after the request that they are at."""
        self.stop.set()
        with self._room:
            self._room.notify_all()

    def _day(self, visitor: Visitor) -> None:
        try:
            while not self.stop.is_set():
                seen = self._num_freed
                self._pause(self._late(visitor))
                if not self._one_task(visitor) and not self._more_later(seen):
                    break
        except _Stopped:
            pass
        except BaseException as error:
            self.error = self.error or error
            self.end()
        finally:
            visitor.browser.close()

    def _late(self, visitor: Visitor) -> float:
        """Return the seconds that one takes to sit down: nobody comes to a task on the stroke of the clock with all."""
        times = self._times_seated.get(visitor.labeler_id, 0)
        self._times_seated[visitor.labeler_id] = times + 1
        return LONGEST_DELAY_SECONDS * uniform("late", self.handbook.seed, visitor.person.id, times)

    def _more_later(self, seen: int) -> bool:
        """Wait until a slot becomes free, True, or until nobody is left who could free one, False."""
        with self._room:
            self._num_idle += 1
            self._room.notify_all()
            while self._num_freed == seen and self._num_idle < self._num_at_work and not self.stop.is_set():
                self._room.wait()
            if self._num_freed == seen:
                return False
            self._num_idle -= 1
            return True

    def _one_task(self, visitor: Visitor) -> bool:
        """Do one task from lease to receipt; False when the app has none."""
        kind = {} if self.handbook.writes(visitor.person) else {"kind": "compare"}
        shown = self._call(visitor, "POST", "/api/next", kind)
        if shown is None:
            return False
        started = self.clock()
        self._until_answered(lambda: visitor.browser.get(f"/work/{shown['id']}").text)
        answer, reason, seconds = self.handbook.answer(visitor, shown)
        if answer is None:
            self._pause(seconds)
            self._skip(visitor, shown, reason)
            return True
        rev = (shown["draft"] or {"rev": 0})["rev"]
        for step, body in enumerate(_screens(answer, shown), start=1):
            self._pause(seconds / 2)
            self._save(visitor, shown["id"], rev + step, body)
        self._submit(visitor, shown, answer, wall_seconds=self.clock() - started, seconds=seconds)
        return True

    def _skip(self, visitor: Visitor, shown: Mapping[str, Any], reason: str) -> None:
        self._call(visitor, "POST", f"/api/assignments/{shown['id']}/skip", {"reason": reason})
        with self._room:
            self.num_skipped += 1
            self.num_foreign += reason == NO_WORLD
            self._num_freed += 1
            self._room.notify_all()

    def _save(self, visitor: Visitor, assignment_id: str, rev: int, body: Mapping[str, Any]) -> None:
        self._call(visitor, "PUT", f"/api/assignments/{assignment_id}/draft", {"rev": rev, "body": body})

    def _submit(
        self, visitor: Visitor, shown: Mapping[str, Any], answer: Answer, *, wall_seconds: float, seconds: float
    ) -> None:
        body = {
            "idempotency_key": secrets.token_urlsafe(12),
            "answer": answer_of(answer),
            "active_seconds": seconds,  # what a person would take: the pause is shorter
            "wall_seconds": max(wall_seconds, seconds),
            "instruction_version": shown["instruction"]["version"],
        }
        self._call(visitor, "POST", f"/api/assignments/{shown['id']}/submit", body)
        with self._room:
            self.num_submitted += 1
            self.progress.advance(1)

    def _pause(self, seconds: float) -> None:
        if self.speed is not None and self.stop.wait(seconds / self.speed):
            raise _Stopped

    def _call(self, visitor: Visitor, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        return self._until_answered(lambda: visitor.browser.call(method, path, body))

    def _until_answered(self, ask: Callable[[], Result]) -> Result:
        """Ask until an answer comes, as the page does; every message may come twice without harm."""
        given_up, pause = self.clock() + self.patience_seconds, 0.1
        while not self.stop.is_set():
            try:
                return ask()
            except (Unreachable, Refused) as error:
                if (isinstance(error, Refused) and error.status not in LATER) or self.clock() > given_up:
                    raise
            if self.stop.wait(pause):
                break
            pause = min(2 * pause, LONGEST_PAUSE)
        raise _Stopped


class _Stopped(Exception):
    """Somebody ended the shift."""


def _screens(answer: Answer, shown: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the page autosaves: half-way, and complete."""
    if isinstance(answer, str):
        return {"text": answer[: len(answer) // 2]}, {"text": answer}
    return half_of(answer, shown), answer_of(answer)
