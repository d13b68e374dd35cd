"""Tasks for the tests of the labelling pages: prompts with completions opened for a cohort, and whole answers."""

from datetime import UTC, datetime
from typing import Any

from instructloop.core.records import FLAGS, Cohort, Completion, Prompt
from instructloop.store import Store, TaskItem

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FEW_WORDS = ("Paris.", "It is Paris.", "Lyon.", "I do not know.", "Rome.", "Paris!", "Vichy.", "", "Bonn.")


def open_comparison(
    store: Store,
    *,
    texts: tuple[str, ...] = FEW_WORDS[:4],
    prompt: str = "What is the capital of France?",
    task_set: str = "ranking",
    cohort: Cohort = "train",
    overlap: int = 2,
    now: datetime = NOON,
) -> Prompt:
    """Open one comparison of these texts, each by a policy of its own, and return its prompt."""
    asked = Prompt.make(prompt, source="customer", user=task_set, split="train")
    store.add_prompts([asked])
    completions = [
        Completion.make(
            asked.id, text, policy=f"policy-{i}", policy_run="run", index=i, sampling={"top_p": 1.0}, finished=i != 2
        )
        for i, text in enumerate(texts)
    ]
    store.add_completions(completions)
    item = TaskItem(asked.id, tuple(completion.id for completion in completions))
    store.open_tasks(task_set, "compare", [item], overlap=overlap, cohort=cohort, now=now)
    return asked


def open_demonstrations(
    store: Store, number: int = 1, *, task_set: str = "writing", overlap: int = 2, now: datetime = NOON
) -> list[Prompt]:
    """Open so many demonstrations and return their prompts."""
    asked = [
        Prompt.make(f"Write {i + 1} lines about rain.", source="customer", user=f"{task_set}-{i}", split="train")
        for i in range(number)
    ]
    store.add_prompts(asked)
    items = [TaskItem(prompt.id) for prompt in asked]
    store.open_tasks(task_set, "demonstrate", items, overlap=overlap, cohort="train", now=now)
    return asked


def comparison_answer(shown: list[str], ranks: list[int], **changes: Any) -> dict[str, Any]:
    """Return a whole answer that ranks completions in the order shown; every flag is a No in so many words."""
    answer: dict[str, Any] = {
        "ratings": dict.fromkeys(shown, 4),
        "flags": {key: dict.fromkeys(FLAGS, False) for key in shown},
        "ranks": dict(zip(shown, ranks, strict=True)),
    }
    return answer | changes


def submission(answer: dict[str, Any], key: str = "key-of-one-answer", **changes: Any) -> dict[str, Any]:
    """Return what the page posts with an answer."""
    body = {"idempotency_key": key, "answer": answer, "active_seconds": 31.5, "wall_seconds": 40.0}
    return body | {"instruction_version": 1} | changes
