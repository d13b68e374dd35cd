"""The prompts that the microworld's people write, and what each of them asks for; no judging."""

from __future__ import annotations

from functools import lru_cache

from instructloop.core.records import Prompt
from instructloop.microworld.specs import Spec
from instructloop.microworld.world import World, world_of


@lru_cache(maxsize=8)
def _book(seed: int) -> tuple[tuple[Prompt, ...], dict[str, Spec]]:
    world = world_of(seed)
    prompts: list[Prompt] = []
    specs: dict[str, Spec] = {}
    for index, fact in enumerate(fact for fact in world.facts if fact.key not in world.reserved):
        text = world.question(*fact.key)
        specs[text] = Spec("fact", "open_qa", text, subject=fact.subject, relation=fact.relation)
        user = f"user-{index // 8:03d}"
        prompts.append(Prompt.make(text, source="customer", user=user, kind="plain", category="open_qa"))
    return tuple(prompts), specs


def raw_prompts(world: World) -> list[Prompt]:
    """Every prompt as people send it: duplicates, personal data and a too eager user included; no split yet."""
    return list(_book(world.seed)[0])


def spec_of(world: World, text: str) -> Spec:
    """What the prompt `text` asks for; ValueError when no person of this world wrote it."""
    specs = _book(world.seed)[1]
    if text not in specs:
        raise ValueError(f"no prompt of world {world.seed} reads {text!r}")
    return specs[text]
