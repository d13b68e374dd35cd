"""Conversations as one text and back: a prompt is plain text, or a transcript that ends where the assistant speaks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]
SPEAKERS: dict[Role, str] = {"system": "System", "user": "Human", "assistant": "Assistant"}
ROLES: dict[str, Role] = {speaker: role for role, speaker in SPEAKERS.items()}

_MARK = re.compile(r"(?:\A|\n\n)(System|Human|Assistant):")
_OPEN_END = re.compile(r"\n\nAssistant:\s*\Z")


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says at once."""

    role: Role
    text: str


def transcript(turns: Sequence[Turn]) -> str:
    """Return a conversation as a prompt's text: one user turn as it is, more as Anthropic's HH writes them.

    `Human: …`, `Assistant: …` and `System: …` are paragraphs, and the text ends in the `Assistant:` that is to go on.
    """
    if not turns:
        raise ValueError("a conversation has no turn")
    if len(turns) == 1 and turns[0].role == "user":
        return turns[0].text
    return "\n\n".join(f"{SPEAKERS[turn.role]}: {turn.text}" for turn in turns) + "\n\nAssistant:"


def turns_of(text: str) -> tuple[Turn, ...]:
    """Return the turns of a prompt's text; text that is no transcript is one turn of the user.

    A transcript begins with a speaker, after line breaks perhaps, and ends in an open `Assistant:`. Everything between
    two marks is a turn's text, but for one blank after the colon: `transcript(turns_of(t))` is `t` in this one form.
    """
    stripped = text.lstrip("\n")
    body = _OPEN_END.sub("", stripped)
    pieces = _MARK.split(body)
    if body == stripped or pieces[0] or len(pieces) < 3:
        return (Turn("user", text),)
    return tuple(
        Turn(ROLES[speaker], said.removeprefix(" ")) for speaker, said in zip(pieces[1::2], pieces[2::2], strict=True)
    )


def last_turn(text: str) -> tuple[str, str] | None:
    """Return (prompt, completion) of a transcript that ends with what the assistant said; None if it does not.

    This is how Anthropic's HH pairs stand in their files: the prompt inside `chosen` and `rejected`.
    """
    marks = [*_MARK.finditer(text)]
    if len(marks) < 2 or marks[-1][1] != "Assistant":
        return None
    end = marks[-1].end()
    return text[:end], text[end:].removeprefix(" ")
