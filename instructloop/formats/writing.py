"""From what people gave to the fields of a row, in the shapes that trainers read; what a shape cannot hold is Unfit."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from instructloop.core.transcripts import SPEAKERS, turns_of
from instructloop.formats.given import (
    Given,
    GivenCompletion,
    GivenDemonstration,
    GivenPrompt,
    GivenRanking,
    Kind,
    Unfit,
)
from instructloop.formats.reading import given

WRITTEN: dict[Kind, tuple[str, ...]] = {
    "demonstrations": ("prompt_completion", "messages"),
    "rankings": ("pairs", "hh", "kwise"),
}
"""Kind -> the shapes that it can be written in; `judgements` besides: the frozen rows as they are."""
ONLY_PAIRS = ("pairs", "hh")

Fields = dict[str, Any]


def fields_of(one: GivenDemonstration | GivenRanking, shape: str, *, chat: bool) -> Fields:
    """Return a label as a row of this shape, prompt and completions as messages with `chat`.

    The row is read back and must say the same; Unfit when it does not, and for a ranking that is no pair where the
    shape has pairs only.
    """
    kind: Kind = "demonstrations" if isinstance(one, GivenDemonstration) else "rankings"
    if isinstance(one, GivenDemonstration):
        body = _demonstration(one, shape, chat)
    elif shape == "kwise":
        body = _kwise(one, chat)
    else:
        body = _pair(one, shape, chat)
    about = {"labeler": one.labeler, "user": one.prompt.user, "category": one.prompt.category}
    row = body | {name: value for name, value in about.items() if value is not None} | dict(one.prompt.beside)
    again: Given = given(kind, shape, row)
    if again != one:
        raise Unfit(f"shape {shape} cannot hold it")
    return row


def pairs_of(ranking: GivenRanking) -> Iterator[GivenRanking]:
    """Yield a ranking's pairs, each a ranking of two; a tie yields none, nor do two completions of the same text."""
    for better, worse in combinations(ranking.tiers, 2):
        for chosen in better:
            for rejected in worse:
                if chosen.text != rejected.text:
                    yield GivenRanking(ranking.prompt, ((chosen,), (rejected,)), ranking.labeler)


def talk(prompt: GivenPrompt, completion: str | None = None) -> list[dict[str, str]]:
    """Return a prompt as messages, with what the assistant says to it."""
    said = [{"role": turn.role, "content": turn.text} for turn in turns_of(prompt.text)]
    return said if completion is None else [*said, _assistant(completion)]


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _demonstration(one: GivenDemonstration, shape: str, chat: bool) -> Fields:
    if shape == "messages":
        return {"messages": talk(one.prompt, one.completion)}
    if chat:
        return {"prompt": talk(one.prompt), "completion": [_assistant(one.completion)]}
    return {"prompt": one.prompt.text, "completion": one.completion}


def _kwise(one: GivenRanking, chat: bool) -> Fields:
    completions = [
        {"rank": rank, "completion": [_assistant(each.text)] if chat else each.text} | _about(each)
        for rank, tier in enumerate(one.tiers, start=1)
        for each in tier
    ]
    return {"prompt": talk(one.prompt) if chat else one.prompt.text, "completions": completions}


def _pair(one: GivenRanking, shape: str, chat: bool) -> Fields:
    if [len(tier) for tier in one.tiers] != [1, 1]:
        raise Unfit("not a pair of better and worse")
    row: Fields = {} if shape == "hh" else {"prompt": talk(one.prompt) if chat else one.prompt.text}
    for name, each in zip(("chosen", "rejected"), one.completions, strict=True):
        if shape == "hh":
            row[name] = talk(one.prompt, each.text) if chat else _whole_transcript(one.prompt, each.text)
        else:
            row[name] = [_assistant(each.text)] if chat else each.text
        row |= {f"{name}_{field}": value for field, value in _about(each).items()}
    return row


def _whole_transcript(prompt: GivenPrompt, completion: str) -> str:
    """Return prompt and completion as Anthropic's HH has them: each turn after a blank line and the speaker's name."""
    turns = [(SPEAKERS[turn.role], turn.text) for turn in turns_of(prompt.text)]
    return "".join(f"\n\n{speaker}: {text}" for speaker, text in [*turns, (SPEAKERS["assistant"], completion)])


def _about(one: GivenCompletion) -> Fields:
    known = {"policy": one.policy, "rating": one.rating}
    return dict(one.beside) | {name: value for name, value in known.items() if value is not None}
