"""What people gave, as text, between a file and the store: prompts, demonstrations, rankings, plain text; no ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from instructloop.core.records import Category

Kind = Literal["text", "prompts", "demonstrations", "rankings"]
Beside = Mapping[str, Any]
"""The fields of a row that have no place of their own here, by name: kept so that nothing of the row is lost."""


class Unfit(ValueError):
    """A row that cannot be taken; its text is the reason that rows are counted by, and it quotes nothing of the row."""


@dataclass(frozen=True, slots=True)
class GivenText:
    """A document to learn language from."""

    text: str
    beside: Beside = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class GivenPrompt:
    """A prompt: plain text or a transcript (core.transcripts); `user` None: the file names nobody."""

    text: str
    user: str | None = None
    category: Category | None = None
    beside: Beside = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class GivenDemonstration:
    """A prompt's good completion; `labeler` None: the file names nobody."""

    prompt: GivenPrompt
    completion: str
    labeler: str | None = None


@dataclass(frozen=True, slots=True)
class GivenCompletion:
    """One of the ranked completions; `rating` is on the scale of 1 to 7, `policy` who wrote it, where that is known."""

    text: str
    policy: str | None = None
    rating: int | None = None
    beside: Beside = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class GivenRanking:
    """A prompt's completions in tiers, best first; inside a tier, where there is no order, they are sorted by text."""

    prompt: GivenPrompt
    tiers: tuple[tuple[GivenCompletion, ...], ...]
    labeler: str | None = None

    @property
    def completions(self) -> tuple[GivenCompletion, ...]:
        """All completions, best tier first."""
        return tuple(one for tier in self.tiers for one in tier)


Given = GivenText | GivenPrompt | GivenDemonstration | GivenRanking


def beside_of(given: Given) -> Beside:
    """Return the fields beside a row: those of a label are kept with its prompt."""
    return given.beside if isinstance(given, GivenText | GivenPrompt) else given.prompt.beside


def in_tiers(completions: Sequence[GivenCompletion], worth: Iterable[float]) -> tuple[tuple[GivenCompletion, ...], ...]:
    """Return completions in tiers, the highest worth first, equal worth tied; Unfit for fewer than 2."""
    if len(completions) < 2:
        raise Unfit("fewer than 2 completions")
    tiers: dict[float, list[GivenCompletion]] = {}
    for one, value in zip(completions, worth, strict=True):
        tiers.setdefault(value, []).append(one)
    return tuple(
        tuple(sorted(tiers[value], key=lambda one: (one.text, one.policy or "")))
        for value in sorted(tiers, reverse=True)
    )
