"""Tasks for labelers without a loop before them: prompts of the microworld with completions that were made up."""

from __future__ import annotations

from instructloop.core.records import Completion
from instructloop.microworld import prompts
from instructloop.microworld.made_up import synthetic_sets
from instructloop.microworld.world import world_of
from instructloop.store import TaskItem
from instructloop.workspace import Workspace


def open_tasks(
    workspace: Workspace,
    num_sets: int,
    num_to_write: int,
    *,
    overlap: int = 3,
    writers: int = 1,
    after: int = 0,
) -> tuple[str, str]:
    """Let `overlap` training labelers rank each of so many sets of 4 to 9, and `writers` write for some prompts.

    Return the names of the two task sets. `after` passes over as many sets as were opened before.
    """
    ranked, written = f"ranked-{after}", f"written-{after}"
    world, now = world_of(workspace.seed), workspace.now()
    asked = {prompt.id: prompt for prompt in prompts.raw_prompts(world)}
    sets = synthetic_sets(world, after + num_sets, 7)[after:]
    if len(sets) < num_sets:
        raise ValueError(f"{num_sets} sets are more than the world has prompts, {len(sets)}")
    workspace.store.add_prompts([asked[one.prompt[0]] for one in sets])
    made = [
        [
            Completion.make(one.prompt[0], text, policy=f"p{k}", policy_run="run", index=0, sampling={}, finished=True)
            for k, (_, text) in enumerate(one.completions)
        ]
        for one in sets
    ]
    workspace.store.add_completions(completion for several in made for completion in several)
    items = [TaskItem(several[0].prompt_id, tuple(one.id for one in several)) for several in made]
    workspace.store.open_tasks(ranked, "compare", items, overlap=overlap, cohort="train", now=now)
    writing = [TaskItem(item.prompt_id) for item in items[:num_to_write]]
    workspace.store.open_tasks(written, "demonstrate", writing, overlap=writers, cohort="train", now=now)
    return ranked, written
