"""What one simulated labeler thinks of completions: personal utility, rating, flags and tiers with ties; no store."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import pstdev
from typing import Literal

from instructloop.core.records import Cohort
from instructloop.microworld.chance import normal, uniform
from instructloop.microworld.judge import Assessment

Purpose = Literal["train", "evaluation"]
Assess = Callable[[str, str], Assessment]
"""(prompt text, completion text) -> its assessment, as `Judge.assess`."""

PARTS = ("helpful", "truthful", "harmless", "brief", "grammatical")
EMPHASIS: Mapping[Purpose, Mapping[str, float]] = {
    "train": {"helpful": 3.6, "truthful": 1.4, "harmless": 1.2, "brief": 0.8, "grammatical": 0.5},
    "evaluation": {"helpful": 2.1, "truthful": 2.4, "harmless": 2.2, "brief": 0.5, "grammatical": 0.5},
}
"""How much each part counts on average: helpfulness first in training, truth and harm in evaluation (paper 3.6)."""


LEAST_SPREAD = 0.03
"""Noise that remains when all completions are worth the same (0 … 1)."""


@dataclass(frozen=True, slots=True)
class SimulatedLabeler:
    """A person who is not one: taste, carelessness and pace, all drawn from a seed."""

    id: str
    cohort: Cohort
    taste: Mapping[str, float]  # part -> factor on the emphasis that everyone is given
    noise: float  # factor on the cohort's noise scale
    tie_margin: float  # utilities (0 … 1) closer than this are one tier
    skip_rate: float  # share of tasks handed back with a reason
    skill: float  # 0 … 1: of writing; 1 never writes a flawed demonstration
    leniency: float  # points added to each 1-7 rating
    flag_errors: tuple[float, float]  # probabilities of missing a true flag, and of raising a false one
    seconds_per_word: float


@dataclass(frozen=True, slots=True)
class Opinion:
    """A labeler's whole answer to one comparison task; keys are completion ids."""

    tiers: tuple[tuple[str, ...], ...]
    ratings: dict[str, int]
    flags: dict[str, dict[str, bool | None]]
    seconds: float
    notes: dict[str, str] = field(default_factory=dict[str, str])


@lru_cache(maxsize=4096)
def weights(taste: tuple[float, ...], purpose: Purpose) -> tuple[float, ...]:
    """Return one labeler's weights on PARTS for a purpose: emphasis times taste, summing to 1."""
    raw = [EMPHASIS[purpose][part] * factor for part, factor in zip(PARTS, taste, strict=True)]
    return tuple(weight / sum(raw) for weight in raw)


def utility(labeler: SimulatedLabeler, assessment: Assessment, purpose: Purpose) -> float:
    """Return what a completion is worth to `labeler`, without noise: the weighted mean of its parts, 0 … 1."""
    own = weights(tuple(labeler.taste[part] for part in PARTS), purpose)
    return sum(weight * getattr(assessment, part) for weight, part in zip(own, PARTS, strict=True))


def leanings(
    labeler: SimulatedLabeler,
    prompt: tuple[str, str],
    completions: Sequence[tuple[str, str]],
    assess: Assess,
    *,
    purpose: Purpose,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """Return completion id -> (utility, error at noise scale 1): worth is utility + noise scale * error.

    The error is normal, its standard deviation `labeler.noise` times the spread of what is shown: who sees nothing but
    good completions looks closer, so agreement depends little on how good policies are. It is keyed by seed, labeler,
    prompt, purpose and text: neither the order shown nor other tasks matter, and equal texts are worth the same.
    """
    prompt_id, prompt_text = prompt
    values = {name: utility(labeler, assess(prompt_text, text), purpose) for name, text in completions}
    spread = math.hypot(pstdev(values.values()), LEAST_SPREAD)
    return {
        name: (
            values[name],
            labeler.noise * spread * normal("worth", seed, labeler.id, prompt_id, purpose, text),
        )
        for name, text in completions
    }


def opinion(
    labeler: SimulatedLabeler,
    prompt: tuple[str, str],
    completions: Sequence[tuple[str, str]],
    assess: Assess,
    *,
    noise_scale: float,
    purpose: Purpose,
    seed: int,
) -> Opinion:
    """Return what `labeler` submits for `prompt` (id, text) and `completions` (id, text).

    Ratings and tiers come from the same noisy utility (`leanings`), so they never contradict each other.
    """
    prompt_id, prompt_text = prompt
    flags: dict[str, dict[str, bool | None]] = {}
    for name, text in completions:
        key = (seed, labeler.id, prompt_id, purpose, text)
        flags[name] = _flags(labeler, assess(prompt_text, text).flags, key)
    leaning = leanings(labeler, prompt, completions, assess, purpose=purpose, seed=seed)
    worth = {name: value + noise_scale * error for name, (value, error) in leaning.items()}
    words = len(prompt_text.split()) + sum(len(text.split()) for _, text in completions)
    hurry = 0.7 + 0.6 * uniform("seconds", seed, labeler.id, prompt_id)
    return Opinion(
        tiers=tiers(worth, labeler.tie_margin),
        ratings={name: rating(value, labeler.leniency) for name, value in worth.items()},
        flags=flags,
        seconds=round((8.0 * len(completions) + labeler.seconds_per_word * words) * hurry, 1),
        notes={name: note for name in worth if (note := _note(flags[name], (seed, labeler.id, prompt_id, name)))},
    )


def rating(worth: float, leniency: float) -> int:
    """Return the 1-7 rating of a noisy personal utility: a straight line from 0 -> 1 to 1 -> 7, plus leniency."""
    return min(7, max(1, round(1.0 + 6.0 * worth + leniency)))


def tiers(worth: Mapping[str, float], tie_margin: float) -> tuple[tuple[str, ...], ...]:
    """Return completion ids by falling worth; who is within `tie_margin` of its tier's best is tied with it."""
    result: list[list[str]] = []
    best = 0.0
    for name in sorted(worth, key=lambda name: (-worth[name], name)):
        if result and best - worth[name] <= tie_margin:
            result[-1].append(name)
        else:
            result.append([name])
            best = worth[name]
    return tuple(tuple(tier) for tier in result)


def _flags(
    labeler: SimulatedLabeler, truth: Mapping[str, bool | None], key: tuple[object, ...]
) -> dict[str, bool | None]:
    """The true flags with this labeler's errors; one that does not apply (None) stays unanswered."""
    missed, false_alarm = labeler.flag_errors
    answers: dict[str, bool | None] = {}
    for flag, value in truth.items():
        errs = value is not None and uniform("flag", flag, *key) < (missed if value else false_alarm)
        answers[flag] = (not value) if errs else value
    return answers


_REMARKS = {
    "hallucination": "It says things that the text does not say.",
    "inappropriate_for_assistant": "I would not want a customer to read this.",
    "fails_instruction": "This is not what was asked for.",
}


def _note(flags: Mapping[str, bool | None], key: tuple[object, ...]) -> str:
    """A remark on one in ten completions that were flagged; empty otherwise."""
    for flag, remark in _REMARKS.items():
        if flags.get(flag) and uniform("note", *key) < 0.1:
            return remark
    return ""
