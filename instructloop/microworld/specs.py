"""What a prompt asks for, in a form that the judge and the writers of demonstrations can use; no judging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from instructloop.core.records import Category
from instructloop.microworld import lexicon

NUMBER = {word: number for number, word in enumerate(("one", *lexicon.NUMBERS), start=1)}
ConstraintKind = Literal["max_words", "sentences", "avoid", "please", "end_with", "start_with"]


@dataclass(frozen=True, slots=True)
class Constraint:
    """An explicit demand on the form of a completion; `value` is a number in digits or a word."""

    kind: ConstraintKind
    value: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a passage tells and the world does not know: `mia found a red cup`."""

    person: str
    verb: str  # present, as in lexicon.EVENT_VERBS
    colour: str
    thing: str


@dataclass(frozen=True, slots=True)
class Spec:
    """The meaning of one prompt: `task` says how to read the other fields."""

    task: str
    category: Category
    text: str
    subject: str = ""
    relation: str = ""
    items: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    accepted: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        """How many things a list or a description was asked to have; 1 where no number was named."""
        return NUMBER.get(self.items[0], 1) if self.items else 1

    @property
    def is_closed_domain(self) -> bool:
        """Whether a completion may use only what the prompt tells (where a hallucination can be seen)."""
        return self.category in ("closed_qa", "summarization", "extract")
