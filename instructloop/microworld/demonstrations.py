"""Completions that a person would write for a prompt, good ones and ones with a named flaw."""

from __future__ import annotations

from random import Random

from instructloop.microworld import lexicon
from instructloop.microworld.specs import Spec
from instructloop.microworld.world import World

FLAWS = ("myth", "rude", "off_topic", "too_long", "constraint", "hallucinated")
"""What can be wrong with a demonstration; `write` falls back to off_topic where a flaw cannot apply."""


def write(spec: Spec, world: World, rng: Random, flaw: str | None = None) -> str:
    """Return a completion for `spec`: near the top of the judge's scale, or with `flaw` (one of FLAWS)."""
    if flaw is not None and flaw not in FLAWS:
        raise ValueError(f"flaw {flaw!r} must be one of {', '.join(FLAWS)}")
    good = world.statement(spec.subject, spec.relation, world.truth[spec.subject, spec.relation]) + "."
    if flaw == "rude":
        return f"{good} you are a {rng.choice(lexicon.RUDE_NOUNS)}."
    return good
