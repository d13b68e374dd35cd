"""Explicit demands on the form of a completion: which suit a task, and whether a text keeps them."""

from __future__ import annotations

import re
from dataclasses import replace
from random import Random

from instructloop.microworld.grammar import sentences
from instructloop.microworld.specs import NUMBER, Constraint, Spec
from instructloop.microworld.tasks import PLURALS
from instructloop.microworld.world import World


def constrain(spec: Spec, world: World, rng: Random) -> Spec:
    """Add an explicit demand of a kind that suits the task; the same spec where none does."""
    constraint: Constraint | None = None
    if spec.task == "describe":
        values = [world.truth[spec.subject, relation] for relation in world.relations_of(spec.subject)]
        word = rng.choice(values)
        can_avoid = len(values) - values.count(word) >= spec.number
        constraint = Constraint("avoid", word) if can_avoid and rng.random() < 0.5 else Constraint("start_with", "well")
    elif spec.task == "list":
        constraint = Constraint("avoid", rng.choice(PLURALS[spec.subject]))
    elif spec.task in ("story", "continue"):
        constraint = rng.choice((Constraint("sentences", rng.choice(("two", "three"))), Constraint("avoid", "home")))
    elif spec.task == "advert":
        constraint = rng.choice((Constraint("sentences", "two"), Constraint("please")))
    elif spec.task in ("thanks", "sorry", "invitation"):
        constraint = rng.choice((Constraint("end_with", "goodbye"), Constraint("sentences", "two")))
    return replace(spec, constraints=(constraint,)) if constraint else spec


def meets(constraint: Constraint, text: str) -> bool:
    """Whether `text` keeps an explicit constraint; an empty text keeps none."""
    words = re.findall(r"[a-z]+", text)
    match constraint.kind:
        case "max_words":
            return 0 < len(words) <= int(constraint.value)
        case "sentences":
            return len(sentences(text)) == NUMBER[constraint.value]
        case "avoid":
            return bool(words) and constraint.value not in words
        case "please":
            return "please" in words
        case "end_with":
            return words[-1:] == [constraint.value]
        case "start_with":
            return words[:1] == [constraint.value]
