"""Made-up completions such as policies of several strengths write: to calibrate labelers before there is a policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from instructloop.core.records import Prompt
from instructloop.microworld import demonstrations, lexicon, prompts
from instructloop.microworld.calibration import Shown
from instructloop.microworld.grammar import PEOPLE
from instructloop.microworld.labelers import flaws_for
from instructloop.microworld.opinions import Purpose
from instructloop.microworld.specs import Spec
from instructloop.microworld.world import World

WRITES: Mapping[str, tuple[float, float, float]] = {
    "base": (0.0, 0.05, 0.15),
    "base_prompted": (0.1, 0.2, 0.35),
    "ppo_init": (0.12, 0.2, 0.58),
    "sft": (0.15, 0.2, 0.6),
    "ppo": (0.6, 0.15, 0.23),
}
"""Shares of good, flawed and slipped completions of a small policy; else it goes on with text beside the point.

Set by eye to resemble samples of models of .4M parameters."""

EASE = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Some prompts are easy for all policies, some for none: what is shown together is more alike than what is not."""

KINDS = (
    PEOPLE,
    lexicon.THINGS,
    lexicon.FOODS,
    lexicon.ANIMALS,
    lexicon.COLOURS,
    lexicon.TOWNS,
    lexicon.SPOTS,
    lexicon.JOBS,
    lexicon.DAYS,
    lexicon.NUMBERS,
    ("she", "he", "it"),
)


def synthetic_sets(world: World, num_sets: int, seed: int, purpose: Purpose = "train") -> list[Shown]:
    """Return up to `num_sets` prompts with completions: 4 to 9 of a mixture to train on, one of each to evaluate."""
    asked = list({prompt.text: prompt for prompt in prompts.raw_prompts(world)}.values())
    rng = Random(f"sets {world.seed} {seed} {purpose}")
    sets: list[Shown] = []
    for prompt in rng.sample(asked, min(num_sets, len(asked))):
        policies = ["base", "base_prompted", "sft", "ppo", "ppo"]
        if purpose == "train":
            policies = rng.choices(("sft", "ppo_init", "base"), (0.5, 0.35, 0.15), k=rng.randint(4, 9))
        spec = prompts.spec_of(world, prompt.text)
        ease = rng.choice(EASE)
        texts = [completion(spec, world, rng, policy, asked, ease=ease) for policy in policies]
        sets.append(Shown((prompt.id, prompt.text), tuple((f"{prompt.id}-{i}", text) for i, text in enumerate(texts))))
    return sets


def completion(
    spec: Spec, world: World, rng: Random, policy: str, asked: Sequence[Prompt], *, ease: float = 1.0
) -> str:
    """Return what `policy` (a key of WRITES) might write for `spec`; the greater `ease`, the better on average."""
    good, flawed, slipped = WRITES[policy]
    draw = rng.random() ** ease
    if draw < good:
        return demonstrations.write(spec, world, rng)
    if draw < good + flawed:
        return demonstrations.write(spec, world, rng, rng.choice(flaws_for(spec)))
    if draw < good + flawed + slipped:
        flaw = rng.choice(flaws_for(spec)) if rng.random() < 0.3 else None
        return slip(demonstrations.write(spec, world, rng, flaw), rng)
    return beside_the_point(world, rng, asked)


def slip(text: str, rng: Random) -> str:
    """Return `text` with one to three words in the place of others of their kind, or of any kind."""
    words = text.split()
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(words))
        bare = words[at].rstrip(".,?!:")
        kind = next((kind for kind in KINDS if bare in kind), None)
        if kind is None or rng.random() < 0.1:
            kind = rng.choice(KINDS)
        words[at] = rng.choice(kind) + words[at][len(bare) :]
    return " ".join(words)


def beside_the_point(world: World, rng: Random, asked: Sequence[Prompt]) -> str:
    """Return what a base model goes on with: other prompts, questions, facts, one to three of them."""
    told: list[str] = []
    for _ in range(rng.choice((1, 2, 3))):
        fact = rng.choice(world.facts)
        statement = f"{world.statement(*fact.key, fact.value)}."
        told.append(rng.choice((rng.choice(asked).text, world.question(*fact.key), statement)))
    return slip("\n".join(told), rng) if rng.random() < 0.3 else "\n".join(told)
