"""Documents that say something twice: tales retold, echoes, notes, parallel sentences; what copying is learned from."""

from __future__ import annotations

from random import Random

from instructloop.microworld import lexicon
from instructloop.microworld.demonstrations import WRITERS
from instructloop.microworld.grammar import GOODS, PEOPLE, join
from instructloop.microworld.registers import insult
from instructloop.microworld.specs import Spec
from instructloop.microworld.tasks import TASKS, draw_events, tell, toy_sentence
from instructloop.microworld.world import World


def story(world: World, rng: Random) -> str:
    told: list[str] = []
    for _ in range(2):
        person, animal = rng.choice(lexicon.WOMEN + lexicon.MEN), rng.choice(lexicon.ANIMALS)
        if rng.random() < 0.3:
            told.append(f"once upon a time there was a {animal}.")
        told.append(WRITERS["story"](Spec("story", "generation", "", items=(person, animal)), world, rng))
        (event,) = draw_events(rng, 1)
        told.append(tell(event))
    return " ".join(told)


def copying(world: World, rng: Random) -> str:
    """Tales told twice: without them a small model never learns to take a name or a thing from its prompt."""
    events = draw_events(rng, rng.choice((2, 3)))
    told = " ".join(tell(event) for event in events)
    event = rng.choice(events)
    did = lexicon.EVENT_VERBS[event.verb]
    again = (
        f"the parrot said: {tell(event)} the parrot said again: {tell(event)}",
        f"the tale: {told} the tale again: {told}",
        f"{told} what did {event.person} {event.verb}? {tell(event)} who {did} the {event.thing}? {event.person}.",
        f"{told} the people in this text: {join([e.person for e in events])}. "
        f"the things in this text: {join([e.thing for e in events])}. "
        f"the colours in this text: {join(list(dict.fromkeys(e.colour for e in events)))}.",
        f"{told} what did {rng.choice([p for p in PEOPLE if p not in told])} {event.verb}? the text does not say.",
    )
    return " ".join(rng.sample(again, 2)) if len(events) == 2 else rng.choice(again[:4])


def retelling(world: World, rng: Random) -> str:
    """Longer tales with their sum, and words that are said again."""
    spec, words = TASKS["summary"][1](world, rng)
    word = rng.choice(GOODS + lexicon.ANIMALS)
    number = rng.choice(("two", "three", "four"))
    repeated = " ".join([word] * {"two": 2, "three": 3, "four": 4}[number])
    return f"{words['passage']} in short, {WRITERS['summary'](spec, world, rng)} {number} times {word}: {repeated}."


def dialogue(world: World, rng: Random) -> str:
    told: list[str] = []
    for _ in range(2):
        spec, words = TASKS["chat"][1](world, rng)
        line = WRITERS[spec.task](spec, world, rng) if rng.random() < 0.6 else insult(rng)
        told.append(f"you: {words['line']}\nhelper: {line}")
    return "\n".join(told)


def letters(world: World, rng: Random) -> str:
    """What someone wants to say and the note that says it; adverts; curt words and polite ones."""
    told: list[str] = []
    for _ in range(3):
        task = rng.choice(("thanks", "sorry", "invitation", "advert", "kindness", "polite", "past", "opposite"))
        spec, words = TASKS[task][1](world, rng)
        wish = words.get("line") or f"{task}: {', '.join(spec.items or (spec.subject,))}"
        end = rng.choice(("", "", " goodbye.", f" with love from {rng.choice(PEOPLE)}.")) if spec.items else ""
        told.append(f"{wish}. {WRITERS[task](spec, world, rng)}{end}")
    return "\n".join(told)


def toy(world: World, rng: Random) -> str:
    told: list[str] = []
    for _ in range(4):
        english = toy_sentence(rng)
        told.append(f"{world.translate(english)}. in english: {english}.")
    return "\n".join(told)
