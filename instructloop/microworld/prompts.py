"""The prompts that the microworld's people write, with their users, and what each prompt asks for; no judging."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from functools import lru_cache
from random import Random

from instructloop.core.records import Kind, Prompt
from instructloop.microworld import lexicon
from instructloop.microworld.constraints import constrain
from instructloop.microworld.specs import Spec
from instructloop.microworld.tasks import TASKS
from instructloop.microworld.wording import phrase
from instructloop.microworld.world import World, world_of

NUM_PROMPTS = 3200
NUM_CUSTOMERS = 150
NUM_LABELERS = 24
LABELER_SHARE = 0.25
CONSTRAINED_FRACTION = 0.45  # of the tasks that can carry a constraint: about a quarter of all prompts
EAGER_USER = "customer-000"  # sends more than the cap of 200
EAGER_PROMPTS = 230
FEW = frozenset(("fact", "stranger", "yesno", "list", "list_where", "sort", "repeat", "count", "opposite"))
"""Tasks with too few meanings for all prompts: several people may ask the same in other words."""


@lru_cache(maxsize=8)
def _book(seed: int) -> tuple[tuple[Prompt, ...], dict[str, Spec]]:
    world = world_of(seed)
    rng = Random(f"prompts {seed}")
    prompts: list[Prompt] = []
    specs: dict[str, Spec] = {}
    seen: set[Hashable] = set()
    for index in range(NUM_PROMPTS + EAGER_PROMPTS):
        is_eager = index >= NUM_PROMPTS
        spec, kind = _draw_new(world, rng, seen)
        specs[spec.text] = spec
        source, user = ("customer", EAGER_USER) if is_eager else _draw_user(rng)
        prompts.append(Prompt.make(spec.text, source=source, user=user, kind=kind, category=spec.category))
    for origin, prompt in _untidy(prompts, rng):
        specs[prompt.text] = replace(specs[origin.text], text=prompt.text)
        prompts.append(prompt)
    rng.shuffle(prompts)
    return tuple(prompts), specs


def _draw_new(world: World, rng: Random, seen: set[Hashable]) -> tuple[Spec, Kind]:
    """Draw a spec that nobody has asked for, so that prompts of held-out users never repeat a training prompt."""
    while True:
        task = rng.choices(tuple(TASKS), [share for share, _ in TASKS.values()])[0]
        for _ in range(100):
            spec, words = TASKS[task][1](world, rng)
            if rng.random() < CONSTRAINED_FRACTION:
                spec = constrain(spec, world, rng)
            text, kind = phrase(spec.task, words, spec.constraints, rng)
            meaning = (spec, words.get("line"), words.get("passage"))
            if spec.task in FEW:
                meaning = (text,)
            if meaning not in seen and text not in seen:
                seen.update((meaning, text))
                return replace(spec, text=text), kind


def _draw_user(rng: Random) -> tuple[str, str]:
    """A few users send much, most send little."""
    if rng.random() < LABELER_SHARE:
        return "labeler", f"labeler-{rng.randrange(NUM_LABELERS):02d}"
    return "customer", f"customer-{1 + int(rng.random() ** 1.5 * (NUM_CUSTOMERS - 1)):03d}"


def _untidy(prompts: list[Prompt], rng: Random) -> list[tuple[Prompt, Prompt]]:
    """What cleaning is for, beside the prompt it came from: the same with a new end, mail addresses, telephones."""
    pairs: list[tuple[Prompt, Prompt]] = []
    for prompt in rng.sample([p for p in prompts if len(p.text) > 60], 60):
        end = rng.choice(("thanks.", "again please.", "thank you very much.", "now please."))
        pairs.append((prompt, _reworded(prompt, f"{prompt.text}\n{end}")))
    for prompt in rng.sample([p for p in prompts if p.category == "generation"], 40):
        mail = f"my mail is {rng.choice(lexicon.WOMEN + lexicon.MEN)}@mail.com."
        contact = rng.choice((mail, f"call me at +1 202 555 01{rng.randrange(10, 99)}."))
        pairs.append((prompt, _reworded(prompt, f"{contact} {prompt.text}")))
    return pairs


def _reworded(prompt: Prompt, text: str) -> Prompt:
    return Prompt.make(text, source=prompt.source, user=prompt.user, kind=prompt.kind, category=prompt.category)


def raw_prompts(world: World) -> list[Prompt]:
    """Every prompt as people send it: duplicates, personal data and a too eager user included; no split yet."""
    return list(_book(world.seed)[0])


def spec_of(world: World, text: str) -> Spec:
    """What the prompt `text` asks for; ValueError when no person of this world wrote it."""
    specs = _book(world.seed)[1]
    if text not in specs:
        raise ValueError(f"no prompt of world {world.seed} reads {text!r}")
    return specs[text]


def is_prompt(world: World, text: str) -> bool:
    """Whether a person of this world wrote exactly this prompt."""
    return text in _book(world.seed)[1]
