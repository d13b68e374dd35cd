"""Which sentences are English of the microworld, and what each of them says; whether it is true is not asked here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from instructloop.microworld import lexicon
from instructloop.microworld.world import RELATIONS, World

PEOPLE = lexicon.WOMEN + lexicon.MEN + lexicon.STRANGERS
GOODS = lexicon.THINGS + lexicon.FOODS
SLOTS: dict[str, tuple[str, ...]] = {
    "p": (*PEOPLE, "he", "she"),
    "q": (*PEOPLE, "him", "her"),
    "name": PEOPLE,
    "animal": lexicon.ANIMALS,
    "food": lexicon.FOODS,
    "thing": lexicon.THINGS,
    "goods": GOODS,
    "job": lexicon.JOBS,
    "town": lexicon.TOWNS,
    "spot": lexicon.SPOTS,
    "day": lexicon.DAYS,
    "colour": lexicon.COLOURS,
    "past": tuple(lexicon.EVENT_VERBS.values()),
    "moved": tuple(lexicon.MOVES.values()),
    "moves": tuple(lexicon.MOVES),
    "feeling": lexicon.GLAD + lexicon.GRIEVED,
    "kind": lexicon.KIND_WORDS,
    "adjective": lexicon.ADJECTIVES,
    "rude": lexicon.RUDE_NOUNS,
    "grubby": lexicon.RUDE_ADJECTIVES,
    "request": lexicon.REQUESTS,
}
VOCABULARY = frozenset(word for words in SLOTS.values() for word in words if " " not in word)
"""Every word that can stand in a list."""
PATTERNS: dict[str, tuple[str, ...]] = {
    "event": ("{p} {past} a {colour} {thing}", "{p} {past} a {thing}", "{p} {past} the {thing}"),
    "gift": ("{p} gave the {thing} to {q}", "{p} gave a {thing} to {q}", "{p} gave a {colour} {thing} to {q}"),
    "digest": ("{p} {past} a {colour} {thing} and gave it to {q}", "{p} {past} a {thing} and gave it to {q}"),
    "move": ("{p} {moved} to the {spot}", "one day {p} {moved} to the {spot}"),
    "moves": ("{p} {moves} to the {spot}",),
    "meeting": ("{p} saw a {animal}", "{p} met a {animal}", "there {p} saw a {animal}", "there {p} met a {animal}"),
    "feeding": ("{p} gave the {animal} some {food}",),
    "feeling": ("the {animal} was {feeling}", "{p} was {feeling}"),
    "ending": (
        "they became friends",
        "{p} and the {animal} became friends",
        "then {p} {moved} home",
        "they were happy",
    ),
    "opening": ("once upon a time there was a {animal}",),
    "state": ("the {goods} is {adjective}",),
    "sale": ("buy the {goods} today", "buy our {goods}", "come and buy the {goods}"),
    "praise": ("you will like it", "it is the best {goods} in {town}", "please come to our shop"),
    "thanks": ("dear {name}, thank you for the {goods}",),
    "sorry": ("dear {name}, i am sorry about the {goods}",),
    "invitation": ("dear {name}, please come to the {spot} on {day}", "dear {name}, come to the {spot} on {day}"),
    "closing": ("i like it very much", "i hope to see you soon", "with love from {name}", "goodbye"),
    "kindness": (
        "the {job} is {kind}",
        "the {job} is {kind} and {kind2}",
        "{name} is {kind}",
        "{name} is {kind} and {kind2}",
    ),
    "polite": ("please {request} the {goods}", "could you {request} the {goods}, please"),
    "order": ("{request} the {goods}",),
    "greeting": ("hello", "hello {name}", "good morning", "good morning {name}"),
    "welfare": ("i am well, thank you", "you are welcome", "thank you"),
    "service": ("how can i help you",),
    "regret": ("i am sorry", "i am sorry to hear that", "i am sorry about your {thing}"),
    "wish": ("i hope you feel better soon", "i hope you find it soon"),
    "joy": ("that is great", "i am happy for you"),
    "unknown": ("i do not know", "i am sorry, i do not know", "i do not know that"),
    "unsaid": ("the text does not say", "the text does not say that"),
    "category": ("the {animal} is an animal", "the {food} is a food", "the {thing} is a thing"),
    "rudeness": (
        "you are a {rude}",
        "what a {rude}",
        "you are {grubby}",
        "only a {rude} asks that",
        "the {job} is a {rude}",
        "{name} is a {rude}",
        "the {job} is {grubby}",
        "the {goods} is {grubby}",
        "the {goods} is for {rude}s",
    ),
    "doing": ("{p} {request} the {goods}",),
}
LEADS = ("in truth, ", "they say that ", "yes, ", "no, ", "well, ", "then ")
PRONOUNS = ("it", "he", "she")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one sentence says: the kind of pattern (or `fact`), its slots, and the words before it (`in truth, `)."""

    kind: str
    slots: tuple[tuple[str, str], ...] = ()
    lead: str = ""

    def slot(self, name: str) -> str:
        """Value of a slot, empty when the pattern has none of that name."""
        return dict(self.slots).get(name, "")

    @property
    def words(self) -> frozenset[str]:
        """All slot values: what the sentence is about."""
        return frozenset(value for _, value in self.slots)


def _compile(pattern: str) -> re.Pattern[str]:
    expression = re.escape(pattern).replace(r"\{", "{").replace(r"\}", "}").replace(r"\ ", " ")

    def group(match: re.Match[str]) -> str:
        name = match.group(1)
        return f"(?P<{name}>{'|'.join(SLOTS[name.rstrip('2')])})"

    return re.compile(re.sub(r"\{(\w+)\}", group, expression))


_COMPILED = tuple((kind, _compile(pattern)) for kind, patterns in PATTERNS.items() for pattern in patterns)


def _compile_fact(statement: str, kind: str, values: tuple[str, ...]) -> re.Pattern[str]:
    subjects = {
        "person": "|".join((*lexicon.WOMEN, *lexicon.MEN, *lexicon.STRANGERS)),
        "town": "|".join(lexicon.TOWNS),
        "animal": f"the (?:{'|'.join(lexicon.ANIMALS)})",
        "food": f"the (?:{'|'.join(lexicon.FOODS)})",
        "thing": f"the (?:{'|'.join(lexicon.THINGS)})",
        "job": f"the (?:{'|'.join(lexicon.JOBS)})",
    }[kind]
    pronoun = "he|she" if kind == "person" else "it"
    return re.compile(statement.format(s=f"(?P<s>{subjects}|{pronoun})", v=f"(?P<v>{'|'.join(values)})"))


_FACTS = tuple((r.name, _compile_fact(r.statement, r.kind, r.values)) for r in RELATIONS)


@lru_cache(maxsize=200_000)
def readings(sentence: str) -> tuple[Reading, ...]:
    """Every way to read a sentence (without its full stop); none when it is no English of this world."""
    lead = next((lead for lead in LEADS if sentence.startswith(lead)), "")
    found: list[Reading] = []
    for candidate, before in {(sentence, ""), (sentence[len(lead) :], lead)}:
        for name, expression in _FACTS:
            if match := expression.fullmatch(candidate):
                subject = match["s"].removeprefix("the ")
                found.append(Reading("fact", (("s", subject), ("relation", name), ("v", match["v"])), before))
        for kind, expression in _COMPILED:
            if match := expression.fullmatch(candidate):
                found.append(Reading(kind, tuple(match.groupdict().items()), before))
    return tuple(sorted(found, key=lambda reading: (reading.lead, reading.kind, reading.slots)))


def sentences(text: str) -> list[tuple[str, str]]:
    """Split into (sentence, end mark); the mark of an unfinished last sentence is empty."""
    parts = re.findall(r"[^.!?\n]+[.!?]?", text)
    split = [(part.rstrip(".!?").strip(), part.strip()[-1:] if part.strip()[-1:] in ".!?" else "") for part in parts]
    return [(words, mark) for words, mark in split if words]


def resolve(reading: Reading, subject: str, world: World) -> Reading | None:
    """Put `subject` for `it`, `he` or `she` in a fact; None when it does not fit (a fox that is a `she`)."""
    if reading.kind != "fact" or reading.slot("s") not in PRONOUNS:
        return reading
    pronoun, relation = reading.slot("s"), reading.slot("relation")
    kind = world.kind_of.get(subject)
    expected = "it" if kind != "person" else "she" if world.is_woman(subject) else "he"
    if kind is None or pronoun != expected or relation not in world.relations_of(subject):
        return None
    return Reading("fact", (("s", subject), ("relation", relation), ("v", reading.slot("v"))), reading.lead)


def listed(text: str) -> tuple[str, ...] | None:
    """`fox, bear and wolf` -> (fox, bear, wolf); None when it is no list of single words."""
    items = re.split(r", | and ", text.rstrip("."))
    return tuple(items) if all(re.fullmatch(r"[a-z]+", item) for item in items) else None


def join(items: tuple[str, ...] | list[str]) -> str:
    """(fox, bear, wolf) -> `fox, bear and wolf`."""
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1])))
