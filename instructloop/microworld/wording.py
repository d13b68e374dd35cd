"""How people word the tasks: phrasings by task, frames by kind of prompt, and the words of explicit constraints."""

from __future__ import annotations

from random import Random

from instructloop.core.records import Kind
from instructloop.microworld.specs import Constraint

PHRASINGS: dict[str, tuple[str, ...]] = {
    "fact": ("{q}", "please tell me: {q}", "i want to know: {q}", "a question: {q}", "hello. {q}",
             "{shots}\nq: {q} a:"),
    "stranger": ("{q}", "please tell me: {q}", "i want to know: {q}", "a question: {q}"),
    "yesno": ("is it true that {fact}?", "yes or no: {fact}?", "someone said that {fact}. is that right?"),
    "list": ("list {n} {what}.", "name {n} {what}.", "give me {n} {what}.", "i need ideas: {n} {what}.",
             "can you name {n} {what}?"),
    "list_where": ("list {n} of the {what}.", "name {n} of the {what}.", "give me {n} of the {what}."),
    "describe": ("write {n} about {s}.", "tell me {n} about {s}.", "i need {n} about {s}.",
                 "please write {n} about {s}."),
    "story": ("write a story about {p} and a {animal}.", "tell me a short story with {p} and a {animal}.",
              "make up a story in which {p} meets a {animal}.", "i want a story about a {animal} and {p}."),
    "continue": ("one day {p} went to the {spot}.", "continue the story: {p} went to the {spot}."),
    "advert": ("write an advert for the {goods}.", "help me to sell the {goods}.", "i need an advert for my {goods}."),
    "thanks": ("write a note to {p}: thank you for the {goods}.", "thank {p} for the {goods} in a note.",
               "write to {p} and say thank you for the {goods}."),
    "sorry": ("write a note to {p}: sorry about the {goods}.", "say sorry to {p} about the {goods} in a note.",
              "write to {p} and say sorry about the {goods}."),
    "invitation": ("write a note to {p}: come to the {spot} on {day}.", "invite {p} to the {spot} on {day}."),
    "kindness": ("write something kind about {s}.", "say something polite about {s}.", "what can i say to praise {s}?"),
    "chat": ("this is a chat with a helper.\nyou: {line}\nhelper:", "a kind helper talks to you.\nyou: {line}\nhelper:",
             "{line}"),
    "polite": ("make this polite: {line}.", "say it politely: {line}.", "how do i say this in a polite way? {line}."),
    "opposite": ("say the opposite: {line}.", "what is the opposite? {line}.", "turn this around: {line}."),
    "past": ("put this into the past: {line}.", "say it in the past: {line}.", "it was yesterday: {line}."),
    "translate": ("translate into english: {line}.", "what does this mean in english? {line}."),
    "summary": ("{passage}\nsum this up in one sentence.", "sum up: {passage}", "{passage}\nin short:"),
    "mood": ("is the writer happy or sad? {line}", "happy or sad? {line}", "{shots}\ntext: {line} mood:"),
    "sort": ("is the {s} an animal, a food or a thing?", "animal, food or thing: the {s}?"),
    "count": ("count from {a} to {b}.", "please count from {a} to {b}.", "say the numbers from {a} to {b}."),
    "repeat": ("say the word {word} {n} times.", "repeat {word} {n} times.", "write {word} {n} times."),
    "closed": ("{passage}\n{q}", "read this: {passage}\n{q}", "use only this text: {passage}\n{q}"),
    "extract": ("list the {what} in this text: {passage}", "{passage}\nwhich {what} are in the text?"),
}  # fmt: skip

OCCASIONS = ("i work in a shop.", "i am a teacher.", "this is for my class.", "i am new here.", "it is for my friend.",
             "i have a small school.", "we plan a party.", "i write for children.")  # fmt: skip
"""What a user-based prompt begins with: the use case from a wait-list application."""

_CONSTRAINTS: dict[str, str] = {
    "avoid": "do not use the word {v}.",
    "sentences": "use {v} sentences.",
    "end_with": "end with the word {v}.",
    "start_with": "start with the word {v}.",
    "please": "say please.",
}


def demand(constraint: Constraint) -> str:
    """An explicit constraint in words: `do not use the word red.`"""
    return _CONSTRAINTS[constraint.kind].format(v=constraint.value)


def phrase(task: str, words: dict[str, str], constraints: tuple[Constraint, ...], rng: Random) -> tuple[str, Kind]:
    """Return the prompt's text and its kind (plain, few-shot, user-based)."""
    pattern = rng.choice(PHRASINGS["chat" if task.startswith("chat") else task])
    kind: Kind = "few_shot" if "{shots}" in pattern else "plain"
    text = " ".join((pattern.format(**words), *map(demand, constraints)))
    if (
        kind == "plain"
        and task in ("describe", "story", "advert", "list", "thanks", "invitation")
        and rng.random() < 0.2
    ):
        return f"{rng.choice(OCCASIONS)} {text}", "user_based"
    return text, kind
