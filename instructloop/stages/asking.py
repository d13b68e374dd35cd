"""What people are asked in a step: the tasks of stages 2 and 5, from what their parents hold; opens none."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from instructloop.core.records import Split
from instructloop.runs import Run
from instructloop.stages.prompts_file import draw, read_prompts, read_rows
from instructloop.store.rows import TaskItem, TaskKind

if TYPE_CHECKING:
    from instructloop.stages import s2_demonstrations, s5_rankings


@dataclass(frozen=True, slots=True)
class Ask:
    """A kind of task, and the function that gives a step's tasks from its configuration, its parents and its name."""

    kind: TaskKind
    items: Callable[[Any, Mapping[str, Run], str], list[TaskItem]]


def to_write(config: s2_demonstrations.Config, parents: Mapping[str, Run], name: str) -> list[TaskItem]:
    """Return one task for each prompt that is drawn for a demonstration."""
    prompts = read_prompts(parents["prompts"])
    numbers: dict[Split, int] = {"train": config.num_train, "valid": config.num_valid}
    return [
        TaskItem(prompt.id)
        for split, number in numbers.items()
        for prompt in draw(prompts, number, split=split, sources=config.sources, seed=config.seed, what=name)
    ]


def to_rank(config: s5_rankings.Config, parents: Mapping[str, Run], name: str) -> list[TaskItem]:
    """Return one task per prompt with all its completions; a seeded share of them goes to several labelers."""
    by_prompt: dict[str, list[str]] = defaultdict(list)
    for row in read_rows(parents["samples"].file("completions.jsonl")):
        by_prompt[row["prompt_id"]].append(row["id"])
    prompts = sorted(by_prompt)
    shared = set(random.Random(config.seed).sample(prompts, int(config.shared_fraction * len(prompts))))
    return [
        TaskItem(prompt, tuple(by_prompt[prompt]), overlap=config.shared_overlap if prompt in shared else None)
        for prompt in prompts
    ]


WRITING = Ask("demonstrate", to_write)
RANKING = Ask("compare", to_rank)
