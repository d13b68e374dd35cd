"""What a benchmark in miniature is: items as plain data, how they are scored, and checkers; running one is not here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Section = Literal["truthfulness", "hallucination", "rudeness", "bias_entropy_bits", "alignment_tax", "held_out_loss"]
"""The field of report.json that a miniature fills."""

Scoring = Literal["check", "bleu", "choice", "entropy", "loss"]
"""`check`: greedy completion, each checker's mean; `bleu`: greedy completions, corpus BLEU; `choice`: accuracy of the
highest log-probability per token; `entropy`: bits over whole texts; `loss`: nats per token of documents."""

Checker = Callable[[str, Any], float]
"""(completion, the query's references) -> 0 … 1."""


@dataclass(frozen=True, slots=True)
class Query:
    """A text to complete and what its completion is scored against; items of one cluster share a source."""

    prompt: str
    references: Any
    cluster: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A context, the texts that could follow it (each with its leading space), and which of them is right."""

    context: str
    choices: tuple[str, ...]
    gold: int
    cluster: str


@dataclass(frozen=True, slots=True)
class Alternatives:
    """Texts that differ in one word."""

    texts: tuple[str, ...]
    cluster: str


@dataclass(frozen=True, slots=True)
class Miniature:
    """One benchmark under one prompt mode or number of shots (`group`); temperature 0, cut at the first newline.

    `is_raw`: the prompt is bare text that every policy continues without its chat template, as in the paper.
    """

    section: Section
    name: str
    title: str
    group: str
    scoring: Scoring
    items: Sequence[Query] | Sequence[Choice] | Sequence[Alternatives] | Sequence[str]
    is_raw: bool = True
    paper: str | None = None  # key of the paper's counterpart in the report's table of its results
    checkers: Mapping[str, Checker] = field(default_factory=dict[str, Checker])  # measure -> checker
    prefix: str = ""  # of `entropy`: what stands before every text
    max_new_tokens: int = 0


def num_tokens(text: str) -> int:
    """Return how many tokens a word tokenizer makes of `text`: words, marks, line breaks."""
    return len(re.findall(r"[a-z]+|\n|[^\sa-z]", text.lower()))


def with_shots(shots: Sequence[str], queries: Sequence[str], room: int) -> list[str]:
    """Return each query behind the same examples, one a line: as many of `shots` as leave no query over `room` tokens.

    ValueError when not one fits: a few-shot prompt without examples would be another benchmark.
    """
    longest = max(map(num_tokens, queries))
    taken: list[str] = []
    for shot in shots:
        if num_tokens("\n".join((*taken, shot, ""))) + longest > room:
            break
        taken.append(shot)
    if not taken:
        raise ValueError(f"no example fits beside a query of {longest} tokens in {room}: the context is too short")
    return ["\n".join((*taken, query)) for query in queries]
