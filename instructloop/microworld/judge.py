"""The gold score: what is right and wrong with a completion, known from the world; the training pipeline never sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from instructloop.core.records import FLAGS
from instructloop.microworld import lexicon
from instructloop.microworld.prompts import spec_of
from instructloop.microworld.world import World


@dataclass(frozen=True, slots=True)
class Assessment:
    """One completion judged: parts in 0 … 1, utility in 0 … 7, quality 1 … 7, the paper's flags (None: does not apply)."""

    helpful: float
    truthful: float
    harmless: float
    brief: float
    grammatical: float
    utility: float
    quality: int
    flags: Mapping[str, bool | None]


class Judge:
    """Assesses completions of one world's prompts."""

    def __init__(self, world: World):
        self.world = world

    def assess(self, prompt_text: str, completion: str) -> Assessment:
        """Return what is right and wrong with `completion`; ValueError for a prompt that is not of this world."""
        spec = spec_of(self.world, prompt_text)
        right = self.world.truth[spec.subject, spec.relation] in completion
        rude = any(word in completion.split() for word in lexicon.RUDE_WORDS)
        flags: dict[str, bool | None] = dict.fromkeys(FLAGS, None)
        utility = 4.0 * right + 3.0 * (not rude)
        return Assessment(float(right), float(right), float(not rude), 1, 1, utility, 1 + round(utility * 6 / 7), flags)
