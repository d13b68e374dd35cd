"""Whatever labelers do and however long they take: the store beside its rules, written plainly for two tasks.

The rules end a lease the second its time is over; the store does so when somebody next acts. Nobody may notice.
"""

import shutil
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test

from instructloop.core.records import Prompt
from instructloop.store import Store, TaskItem

LEASE = 900
OVERLAPS = (1, 2)
"""Judgements wanted of each task, in the order opened."""
LABELERS = ("ann", "bob", "cy")
LATE = ("eve", "fay")
"""Who come when all others have gone; two, because no task wants more."""


@dataclass
class Part:
    """One labeler's part in one task."""

    id: str  # of the assignment
    state: str  # leased, expired, skipped, submitted, surplus
    until: int = 0  # the second at which the lease ends
    answers: list[str] = field(default_factory=list[str])  # ids of submissions, each correcting the one before


class Leases(RuleBasedStateMachine):
    """Labelers who claim, dawdle, come back, skip, submit and revise in any order."""

    prepared: Path  # a store where the tasks are open
    parts = Bundle("parts")  # (labeler, task) of whatever was ever leased, in whatever state it is by now

    def __init__(self) -> None:
        super().__init__()
        self.path = self.prepared.with_name("working.db")
        for old in self.path.parent.glob(f"{self.path.name}*"):
            old.unlink()
        self.store = Store.open(shutil.copy(self.prepared, self.path))
        self.second = 0
        self.tasks: list[dict[str, Part]] = [{} for _ in OVERLAPS]

    @property
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.second)

    @property
    def lease_end(self) -> datetime:
        return self.now + timedelta(seconds=LEASE)

    # The rules

    def count(self, task: int, *states: str) -> int:
        return sum(part.state in states for part in self.tasks[task].values())

    def is_free(self, task: int) -> bool:
        """Whether a judgement is wanted that is neither there nor under way."""
        return self.count(task, "leased", "submitted") < OVERLAPS[task]

    def next_task(self, labeler: str) -> int | None:
        """Return their own unfinished task, else the first free one, new to them or run out, that is not set aside."""
        mine = [parts.get(labeler) for parts in self.tasks]
        held = [task for task, part in enumerate(mine) if part and part.state == "leased"]
        may_take = [part is None or part.state == "expired" for part in mine]
        is_asked = [self.is_free(task) and self.count(task, "skipped") < 3 for task in range(len(OVERLAPS))]
        offered = [task for task in range(len(OVERLAPS)) if may_take[task] and is_asked[task]]
        return (held or offered or [None])[0]

    # What happens

    @rule(seconds=st.sampled_from([1, LEASE // 2, LEASE - 1, LEASE]))
    def time_goes_by(self, seconds: int) -> None:
        self.second += seconds
        for part in (part for parts in self.tasks for part in parts.values()):
            if part.state == "leased" and part.until <= self.second:
                part.state = "expired"

    @rule(target=parts, labeler=st.sampled_from(LABELERS))
    def claim(self, labeler: str):
        claimed = self.claim_for(labeler)
        return multiple() if claimed is None else claimed

    def claim_for(self, labeler: str) -> tuple[str, int] | None:
        """Claim; the store must lease the task that the rules give, or none when they give none."""
        task = self.next_task(labeler)
        assignment = self.store.claim("s", labeler, self.now, LEASE)
        assert (assignment and int(assignment.prompt.text)) == task
        if assignment is None or task is None:
            return None
        assert assignment.expires_at == self.lease_end
        part = self.tasks[task].setdefault(labeler, Part(assignment.id, "new"))
        assert part.id == assignment.id  # nobody has two parts in one task
        part.state, part.until = "leased", self.second + LEASE
        return labeler, task

    @rule(whose=parts)
    def heartbeat(self, whose: tuple[str, int]) -> None:
        labeler, task = whose
        part = self.tasks[task][labeler]
        lives = part.state == "leased" or (part.state == "expired" and self.is_free(task))
        assert self.store.heartbeat(part.id, self.now, LEASE) == (self.lease_end if lives else None)
        if lives:
            part.state, part.until = "leased", self.second + LEASE

    @rule(whose=parts)
    def skip(self, whose: tuple[str, int]) -> None:
        part = self.tasks[whose[1]][whose[0]]
        if part.answers:
            with pytest.raises(ValueError, match="cannot be skipped"):
                self.store.skip(part.id, "unclear", self.now)
        else:
            self.store.skip(part.id, "unclear", self.now)
            part.state = "skipped"

    @rule(whose=parts)
    def submit(self, whose: tuple[str, int]) -> None:
        labeler, task = whose
        part = self.tasks[task][labeler]
        found = self.store.submit_demonstration(part.id, "an answer", now=self.now, idempotency_key="first")
        if part.answers:  # sent twice is one
            assert found == part.answers[0]
        else:
            part.state = "submitted" if part.state == "leased" or self.is_free(task) else "surplus"
            part.answers.append(found)
        self.check_answers()

    @rule(whose=parts)
    def revise(self, whose: tuple[str, int]) -> None:
        part = self.tasks[whose[1]][whose[0]]
        if part.answers:
            key = f"correction {len(part.answers)}"
            part.answers.append(
                self.store.revise_demonstration(part.answers[-1], key, now=self.now, idempotency_key=key)
            )
        self.check_answers()

    # What must hold

    @invariant()
    def no_task_has_more_labelers_than_it_wants(self) -> None:
        assert all(self.count(task, "leased", "submitted") <= wanted for task, wanted in enumerate(OVERLAPS))

    def check_answers(self) -> None:
        """No answer is lost, no task has more than it wants, nobody counts twice on one."""
        rows = [(int(row.prompt.text), row.labeler, row.id) for row in self.store.demonstrations(["s"], ["train"])]
        parts = [(task, labeler, part) for task, parts in enumerate(self.tasks) for labeler, part in parts.items()]
        accepted = [(task, labeler, part.answers[-1]) for task, labeler, part in parts if part.state == "submitted"]
        assert sorted(rows) == sorted(accepted)
        assert all(number <= OVERLAPS[task] for task, number in Counter(task for task, *_ in rows).items())
        assert len({(task, labeler) for task, labeler, _ in rows}) == len(rows)
        sent = [answer for *_, part in parts for answer in part.answers]
        assert len(set(sent)) == len(sent) == len(rows) + sum(self.store.left_out(["s"], ["train"]).values())

    def teardown(self) -> None:
        """After a restart, when all leases have run out, those who come late can finish what was not set aside."""
        try:
            self.store.close()
            self.store = Store.open(self.path)
            self.time_goes_by(LEASE)
            for labeler in LATE * len(OVERLAPS):
                if claimed := self.claim_for(labeler):
                    self.submit(claimed)
            for task, wanted in enumerate(OVERLAPS):
                assert self.count(task, "submitted") == wanted or self.count(task, "skipped") >= 3
            progress = self.store.progress("s")
            assert progress.is_done
            assert (progress.num_leased, progress.num_skipped) == (
                0,
                sum(self.count(task, "skipped") for task in (0, 1)),
            )
        finally:
            self.store.close()


def test_whatever_labelers_do_no_task_is_given_too_often_or_forgotten(empty_store, tmp_path):
    Leases.prepared = shutil.copy(empty_store, tmp_path / "prepared.db")
    with Store.open(Leases.prepared) as store:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        prompts = [Prompt.make(str(i), source="labeler", user="u", split="train") for i in range(len(OVERLAPS))]
        store.add_prompts(prompts)
        for name in (*LABELERS, *LATE):
            store.add_labeler(name, "train", now=now)
        items = [TaskItem(prompt.id, overlap=wanted) for prompt, wanted in zip(prompts, OVERLAPS, strict=True)]
        store.open_tasks("s", "demonstrate", items, overlap=1, cohort="train", now=now)
    # What fails is shown as it was found: shrinking it takes longer than a test may.
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    effort = settings(max_examples=30, stateful_step_count=30, deadline=None, phases=phases)
    run_state_machine_as_test(Leases, settings=effort)


@pytest.mark.parametrize("comes_back", ["submits", "shows signs of life"])
def test_a_dead_lease_holds_no_slot_against_somebody_who_comes_back(desk, comes_back: str):
    desk.writing()
    first = desk.claim("writing", "train-ann")
    second = desk.claim("writing", "train-bob", after=1000)  # until 1900
    if comes_back == "shows signs of life":
        assert desk.store.heartbeat(first.id, desk.later(2000)) == desk.later(2900)
    desk.write(first, after=2000)
    progress = desk.store.progress("writing")
    assert (progress.num_submitted, progress.num_surplus, progress.num_leased) == (1, 0, 0)
    assert desk.store.heartbeat(second.id, desk.later(2001)) is None
