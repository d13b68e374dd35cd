"""What the app says of a task, put together again as the store's assignment, and a half-filled form as JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from threading import Lock
from typing import Any

from instructloop.core.records import Cohort, Completion, Prompt, content_id
from instructloop.store import Assignment, ComparisonForm, Store, TaskItem
from instructloop.store.tasks import task_id

Key = tuple[str, str, frozenset[str]]


class Tasks:
    """The tasks of a store by what they show: labelers are not told to which set a task belongs."""

    def __init__(self, store: Store):
        self.store = store
        self._lock = Lock()
        self._known: dict[Key, list[tuple[str, TaskItem]]] = {}

    def find(self, shown: Mapping[str, Any], cohort: Cohort, labeler_id: str) -> tuple[str, str]:
        """Return task set and id of the task that the app shows a labeler; ValueError when the store has none such.

        The same prompt may stand in several sets: the assignment's id follows from the task's, so it tells which.
        """
        key = (shown["kind"], shown["prompt"]["id"], frozenset(one["id"] for one in shown["completions"]))
        for is_fresh in (False, True):
            for task_set, item in self._sets(key, is_fresh=is_fresh):
                found = task_id(task_set, shown["kind"], cohort, item)
                if content_id("assignment", found, labeler_id) == shown["id"]:
                    return task_set, found
        raise ValueError(f"assignment {shown['id']} is not in the store of --dir: does the app serve another one?")

    def _sets(self, key: Key, *, is_fresh: bool) -> list[tuple[str, TaskItem]]:
        with self._lock:
            if is_fresh or not self._known:
                self._known = self._read()
            return self._known.get(key, [])

    def _read(self) -> dict[Key, list[tuple[str, TaskItem]]]:
        found: dict[Key, list[tuple[str, TaskItem]]] = defaultdict(list)
        for progress in self.store.task_sets():
            for item in self.store.items(progress.task_set):
                key = (progress.kind, item.prompt_id, frozenset(item.completion_ids))
                found[key].append((progress.task_set, item))
        return dict(found)


def assignment_of(shown: Mapping[str, Any], task: str) -> Assignment:
    """Return the assignment that the app shows; who wrote a completion is not told, so its policy is "unknown"."""
    prompt = shown["prompt"]
    completions = tuple(
        Completion(one["id"], prompt["id"], one["text"], "unknown", "unknown", index, {}, one["is_finished"])
        for index, one in enumerate(shown["completions"])
    )
    asked = Prompt(prompt["id"], prompt["text"], "unknown", "unknown", kind=prompt["kind"])
    return Assignment(shown["id"], task, shown["kind"], asked, completions, shown["expires_at"])


def half_of(form: ComparisonForm, shown: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the screen holds half-way: the first half of the completions rated and flagged, none ranked."""
    names = [one["id"] for one in shown["completions"]]
    done = names[: (len(names) + 1) // 2]
    flags = {name: dict(form.flags[name]) for name in done}
    return {"ratings": {name: form.ratings[name] for name in done}, "flags": flags, "notes": {}, "ranks": {}}
