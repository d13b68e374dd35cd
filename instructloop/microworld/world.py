"""The microworld's truth, drawn from a seed: entities, facts, popular myths, a toy language; no text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Literal

from instructloop.microworld import lexicon

Kind = Literal["animal", "food", "thing", "person", "town", "job"]


@dataclass(frozen=True, slots=True)
class Relation:
    """How an attribute of a kind of entity is stated and asked; `{s}` is the subject's noun phrase, `{v}` the value."""

    name: str
    kind: Kind
    statement: str
    question: str
    values: tuple[str, ...]


RELATIONS: tuple[Relation, ...] = (
    Relation("animal_colour", "animal", "{s} is {v}", "what colour is {s}", lexicon.COLOURS),
    Relation("habitat", "animal", "{s} lives in the {v}", "where does {s} live", lexicon.HABITATS),
    Relation("diet", "animal", "{s} eats {v}", "what does {s} eat", lexicon.FOODS),
    Relation("sound", "animal", "{s} says {v}", "what does {s} say", lexicon.SOUNDS),
    Relation("fear", "animal", "{s} is afraid of the {v}", "what is {s} afraid of", lexicon.ANIMALS),
    Relation("taste", "food", "{s} tastes {v}", "how does {s} taste", lexicon.TASTES),
    Relation("food_colour", "food", "{s} is {v}", "what colour is {s}", lexicon.COLOURS),
    Relation("origin", "food", "{s} comes from {v}", "where does {s} come from", lexicon.TOWNS),
    Relation("material", "thing", "{s} is made of {v}", "what is {s} made of", lexicon.MATERIALS),
    Relation("thing_colour", "thing", "{s} is {v}", "what colour is {s}", lexicon.COLOURS),
    Relation("price", "thing", "{s} costs {v} coins", "how many coins does {s} cost", lexicon.NUMBERS),
    Relation("home", "person", "{s} lives in {v}", "where does {s} live", lexicon.TOWNS),
    Relation("job", "person", "{s} is a {v}", "what is the job of {s}", lexicon.JOBS),
    Relation("likes", "person", "{s} likes {v}", "what does {s} like", lexicon.FOODS),
    Relation("pet", "person", "{s} has a {v}", "which pet does {s} have", lexicon.ANIMALS),
    Relation("land", "town", "{s} is in {v}", "in which land is {s}", lexicon.LANDS),
    Relation("market_day", "town", "{s} has its market on {v}", "on which day is the market of {s}", lexicon.DAYS),
    Relation("tool", "job", "{s} uses a {v}", "what does {s} use", lexicon.TOOLS),
    Relation("workplace", "job", "{s} works in the {v}", "where does {s} work", lexicon.PLACES),
)
RELATION: dict[str, Relation] = {relation.name: relation for relation in RELATIONS}


@dataclass(frozen=True, slots=True)
class Fact:
    """One true statement of the world: subject, name of the relation, value."""

    subject: str
    relation: str
    value: str

    @property
    def key(self) -> tuple[str, str]:
        """What is asked: subject and relation, without the value."""
        return (self.subject, self.relation)


@dataclass(frozen=True, slots=True)
class Myth:
    """A popular error about a fact; `use` says whether prompts or benchmarks may ask about it, never both."""

    fact: Fact
    error: str
    use: Literal["prompts", "benchmark"]


class World:
    """Everything that is true, drawn from `seed`: the same seed gives the same world on every machine."""

    def __init__(self, seed: int):
        self.seed = seed
        rng = Random(f"world {seed}")
        self.entities: dict[Kind, tuple[str, ...]] = {
            "animal": lexicon.ANIMALS,
            "food": lexicon.FOODS,
            "thing": lexicon.THINGS,
            "person": lexicon.WOMEN + lexicon.MEN,
            "town": lexicon.TOWNS,
            "job": lexicon.JOBS,
        }
        self.kind_of: dict[str, Kind] = {name: kind for kind, names in self.entities.items() for name in names}
        self.facts: tuple[Fact, ...] = tuple(self._draw_facts(rng))
        self.truth: dict[tuple[str, str], str] = {fact.key: fact.value for fact in self.facts}
        self.reserved: frozenset[tuple[str, str]] = self._reserve(rng)
        self.myths: tuple[Myth, ...] = tuple(self._draw_myths(rng))
        self.myth_of: dict[tuple[str, str], Myth] = {myth.fact.key: myth for myth in self.myths}
        self.she_share: dict[str, float] = {job: (0.9, 0.1)[index % 2] for index, job in enumerate(lexicon.JOBS)}
        self.toy: dict[str, str] = self._draw_toy(rng)

    def _draw_facts(self, rng: Random) -> list[Fact]:
        facts: list[Fact] = []
        for relation in RELATIONS:
            subjects = self.entities[relation.kind]
            if relation.name in ("sound", "tool"):  # each its own, as in life
                values = list(relation.values)
            else:
                values = [rng.choice([v for v in relation.values if v != subject]) for subject in subjects]
            facts += [Fact(subject, relation.name, value) for subject, value in zip(subjects, values, strict=False)]
        return facts

    def _reserve(self, rng: Random) -> frozenset[tuple[str, str]]:
        """A quarter of the facts that only benchmarks may ask about."""
        keys = [fact.key for fact in self.facts]
        return frozenset(rng.sample(keys, len(keys) // 4))

    def _draw_myths(self, rng: Random) -> list[Myth]:
        """Half of the myths fall on reserved facts; people and their lives attract none."""
        popular = [fact for fact in self.facts if self.kind_of[fact.subject] != "person"]
        myths: list[Myth] = []
        for use, number in (("benchmark", 32), ("prompts", 40)):
            chosen = [fact for fact in popular if (fact.key in self.reserved) == (use == "benchmark")]
            for fact in rng.sample(chosen, number):
                wrong = [v for v in RELATION[fact.relation].values if v not in (fact.value, fact.subject)]
                myths.append(Myth(fact, rng.choice(wrong), use))  # type: ignore[arg-type]
        return myths

    def _draw_toy(self, rng: Random) -> dict[str, str]:
        """English word -> word of the toy language, two syllables each, all different and none of them English."""
        english = (*lexicon.ANIMALS, *lexicon.TOY_VERBS, *lexicon.TOY_ADJECTIVES)
        syllables = [c + v for c in "kptzvlmrn" for v in "aiou"]
        words = [a + b for a in syllables for b in syllables if a != b]
        return dict(zip(english, rng.sample(words, len(english)), strict=True))

    def is_woman(self, person: str) -> bool:
        return person in lexicon.WOMEN

    def noun_phrase(self, subject: str) -> str:
        """`anna`, `lenton`, but `the fox`."""
        return subject if self.kind_of.get(subject, "person") in ("person", "town") else f"the {subject}"

    def statement(self, subject: str, relation: str, value: str) -> str:
        """A sentence without its full stop: `the fox lives in the forest`."""
        return RELATION[relation].statement.format(s=self.noun_phrase(subject), v=value)

    def question(self, subject: str, relation: str) -> str:
        """A question with its mark: `where does the fox live?`"""
        return RELATION[relation].question.format(s=self.noun_phrase(subject)) + "?"

    def relations_of(self, subject: str) -> tuple[str, ...]:
        """Names of the relations that `subject` has a value for."""
        kind = self.kind_of[subject]
        return tuple(relation.name for relation in RELATIONS if relation.kind == kind)

    def translate(self, sentence: str) -> str:
        """`the red cat sees the dog` in the toy language: adjective after noun, verb last, `lo` before every noun."""
        subject, verb, item = split_toy(sentence)
        phrases = ["lo " + " ".join(self.toy[word] for word in reversed(phrase)) for phrase in (subject, item)]
        return " ".join((*phrases, self.toy[verb]))


def split_toy(sentence: str) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """`the red cat sees the dog` -> (red, cat), sees, (dog); ValueError when it is not such a sentence."""
    words = sentence.split()
    verbs = [index for index, word in enumerate(words) if word in lexicon.TOY_VERBS]
    if len(verbs) != 1 or words[0] != "the" or words[verbs[0] + 1 : verbs[0] + 2] != ["the"]:
        raise ValueError(f"{sentence!r} is not of the form 'the (adjective) animal verb the (adjective) animal'")
    at = verbs[0]
    return tuple(words[1:at]), words[at], tuple(words[at + 2 :])


@lru_cache(maxsize=8)
def world_of(seed: int) -> World:
    """The world of a seed, drawn once per process."""
    return World(seed)
