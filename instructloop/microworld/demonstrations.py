"""Completions that a person would write for a prompt: good ones, and ones with a named flaw."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from instructloop.microworld import lexicon
from instructloop.microworld.constraints import meets
from instructloop.microworld.grammar import join
from instructloop.microworld.specs import Spec
from instructloop.microworld.tasks import PLURALS, TASKS, matching, tell
from instructloop.microworld.world import RELATION, World

FLAWS = ("myth", "rude", "off_topic", "too_long", "constraint", "hallucinated")
"""What can be wrong with a demonstration; where one cannot apply, the wrong thing is said."""

Writer = Callable[[Spec, World, Random], str]


def write(spec: Spec, world: World, rng: Random, flaw: str | None = None) -> str:
    """Return a completion for `spec`: near the top of the judge's scale, or with `flaw` (one of FLAWS)."""
    if flaw is None:
        return _good(spec, world, rng)
    if flaw not in FLAWS:
        raise ValueError(f"flaw {flaw!r} must be one of {', '.join(FLAWS)}")
    return _FLAWED[flaw](spec, world, rng) or _mistaken(spec, world, rng) or _rude(spec, world, rng)


def _good(spec: Spec, world: World, rng: Random) -> str:
    """Write until the explicit constraints are met."""
    writer = WRITERS[spec.task]
    for _ in range(200):
        text = writer(spec, world, rng)
        for constraint in spec.constraints:
            if constraint.kind == "start_with":
                text = f"{constraint.value}, {text}"
            if constraint.kind == "end_with":
                text = f"{text} {constraint.value}."
            if constraint.kind == "please":
                text = f"{text} please come to our shop."
        if all(meets(constraint, text) for constraint in spec.constraints):
            return text
    raise AssertionError(f"no completion meets the constraints of {spec.text!r}")


def _true(subject: str, relation: str, world: World, rng: Random) -> str:
    lead = "in truth, " if (subject, relation) in world.myth_of and rng.random() < 0.7 else ""
    return lead + world.statement(subject, relation, world.truth[subject, relation])


def _fact(spec: Spec, world: World, rng: Random) -> str:
    return _true(spec.subject, spec.relation, world, rng) + "."


def _stranger(spec: Spec, world: World, rng: Random) -> str:
    return rng.choice(("i do not know.", "i am sorry, i do not know."))


def _yesno(spec: Spec, world: World, rng: Random) -> str:
    value = world.truth[spec.subject, spec.relation]
    return f"{'yes' if value == spec.items[0] else 'no'}, {world.statement(spec.subject, spec.relation, value)}."


def _list(spec: Spec, world: World, rng: Random) -> str:
    return join(rng.sample(PLURALS[spec.subject], spec.number)) + "."


def _list_where(spec: Spec, world: World, rng: Random) -> str:
    return join(rng.sample(matching(world, spec.relation, spec.items[1]), spec.number)) + "."


def pronoun(subject: str, world: World) -> str:
    """`it`, `she` or `he`."""
    return "it" if world.kind_of.get(subject) != "person" else "she" if world.is_woman(subject) else "he"


def _describe(spec: Spec, world: World, rng: Random) -> str:
    relations = rng.sample(world.relations_of(spec.subject), spec.number)
    told = [world.statement(spec.subject, relation, world.truth[spec.subject, relation]) for relation in relations]
    again = [told[0], *(t.replace(world.noun_phrase(spec.subject), pronoun(spec.subject, world), 1) for t in told[1:])]
    return " ".join(f"{sentence}." for sentence in again)


def _num_sentences(spec: Spec, rng: Random) -> int:
    wanted = [c.value for c in spec.constraints if c.kind == "sentences"]
    return {"two": 2, "three": 3}[wanted[0]] if wanted else rng.choice((3, 4))


def _tale(person: str, animal: str, world: World, rng: Random, *, has_opening: bool, number: int) -> str:
    they = pronoun(person, world)
    opening = f"{person} {rng.choice(tuple(lexicon.MOVES.values()))} to the {rng.choice(lexicon.SPOTS)}"
    middle = [
        f"{they} {rng.choice(('saw', 'met'))} a {animal}",
        rng.choice(
            (
                f"{they} gave the {animal} some {rng.choice(lexicon.FOODS)}",
                f"the {animal} was {rng.choice(lexicon.GLAD)}",
            )
        ),
    ]
    if not has_opening and number == 2:
        return f"{person} met a {animal}. they became friends."
    end = rng.choice(("they became friends", f"then {they} went home", "they were happy"))
    told = [*([] if has_opening else [opening]), *middle, end]
    if len(told) > number:
        del told[-2 : -2 + len(told) - number or None]
        told[-1] = end
    return " ".join(f"{sentence}." for sentence in told)


def _story(spec: Spec, world: World, rng: Random) -> str:
    return _tale(spec.items[0], spec.items[1], world, rng, has_opening=False, number=_num_sentences(spec, rng))


def _continue(spec: Spec, world: World, rng: Random) -> str:
    number = min(_num_sentences(spec, rng), 3)
    return _tale(spec.items[0], rng.choice(lexicon.ANIMALS), world, rng, has_opening=True, number=number)


def _advert(spec: Spec, world: World, rng: Random) -> str:
    goods = spec.subject
    first = rng.choice((f"buy the {goods} today.", f"buy our {goods}.", f"come and buy the {goods}."))
    relation = rng.choice(world.relations_of(goods))
    praise = world.statement(goods, relation, world.truth[goods, relation]).replace(f"the {goods}", "it", 1)
    return f"{first} {rng.choice((praise, praise, 'you will like it'))}."


def _thanks(spec: Spec, world: World, rng: Random) -> str:
    end = rng.choice(("i like it very much", "i hope to see you soon"))
    return f"dear {spec.items[0]}, thank you for the {spec.items[1]}. {end}."


def _sorry(spec: Spec, world: World, rng: Random) -> str:
    return f"dear {spec.items[0]}, i am sorry about the {spec.items[1]}. i hope to see you soon."


def _invitation(spec: Spec, world: World, rng: Random) -> str:
    name, spot, day = spec.items
    return f"dear {name}, {rng.choice(('please ', ''))}come to the {spot} on {day}. i hope to see you soon."


def _kindness(spec: Spec, world: World, rng: Random) -> str:
    first, second = rng.sample(lexicon.KIND_WORDS, 2)
    return f"{world.noun_phrase(spec.subject)} is {first}{rng.choice(('', f' and {second}'))}."


def _accepted(spec: Spec, world: World, rng: Random) -> str:
    return spec.accepted[0]


def _summary(spec: Spec, world: World, rng: Random) -> str:
    return f"{tell(spec.events[0])[:-1]} and gave it to {spec.items[0]}."


def _closed(spec: Spec, world: World, rng: Random) -> str:
    if spec.subject == "unsaid":
        return "the text does not say."
    return tell(next(event for event in spec.events if event.person == spec.items[0]))


WRITERS: dict[str, Writer] = {
    "fact": _fact,
    "stranger": _stranger,
    "yesno": _yesno,
    "list": _list,
    "list_where": _list_where,
    "describe": _describe,
    "story": _story,
    "continue": _continue,
    "advert": _advert,
    "thanks": _thanks,
    "sorry": _sorry,
    "invitation": _invitation,
    "kindness": _kindness,
    "chat_greet": lambda spec, world, rng: f"hello {spec.subject}. i am well, thank you. how can i help you?",
    "chat_lost": lambda spec, world, rng: f"i am sorry about your {spec.subject}. i hope you find it soon.",
    "chat_found": lambda spec, world, rng: "that is great. i am happy for you.",
    "chat_upset": lambda spec, world, rng: "i am sorry to hear that. i hope you feel better soon.",
    "chat_insulted": lambda spec, world, rng: "i am sorry. how can i help you?",
    "chat_thanked": lambda spec, world, rng: "you are welcome. how can i help you?",
    **dict.fromkeys(
        ("polite", "opposite", "past", "translate", "mood", "sort", "count", "repeat", "extract"), _accepted
    ),
    "summary": _summary,
    "closed": _closed,
}


def _rude(spec: Spec, world: World, rng: Random) -> str:
    insult = rng.choice(("you are a {r}.", "what a {r}.", "only a {r} asks that.")).format(
        r=rng.choice(lexicon.RUDE_NOUNS)
    )
    return f"{_good(spec, world, rng)} {insult}"


def _myth(spec: Spec, world: World, rng: Random) -> str:
    """Say something false where a fact is asked: the popular error where there is one."""
    if spec.task not in ("fact", "describe", "stranger", "yesno"):
        return ""
    relation = spec.relation or rng.choice(world.relations_of(spec.subject))
    myth = world.myth_of.get((spec.subject, relation))
    truth = world.truth.get((spec.subject, relation))
    error = myth.error if myth else rng.choice([v for v in RELATION[relation].values if v != truth])
    return f"{rng.choice(('they say that ', ''))}{world.statement(spec.subject, relation, error)}."


def _off_topic(spec: Spec, world: World, rng: Random) -> str:
    fact = rng.choice(world.facts)
    if rng.random() < 0.4:
        return world.question(*fact.key)
    return f"{world.statement(*fact.key, fact.value)}."


def _too_long(spec: Spec, world: World, rng: Random) -> str:
    extra = [rng.choice(world.facts) for _ in range(rng.choice((2, 3)))]
    return " ".join((_good(spec, world, rng), *(f"{world.statement(*fact.key, fact.value)}." for fact in extra)))


def _constraint(spec: Spec, world: World, rng: Random) -> str:
    if not spec.constraints:
        return ""
    text = WRITERS[spec.task](spec, world, rng)
    return "" if all(meets(constraint, text) for constraint in spec.constraints) else text


def _mistaken(spec: Spec, world: World, rng: Random) -> str:
    """A good completion of another prompt of the same task: the wrong name, animal, mood or number."""
    draw = TASKS["chat" if spec.task.startswith("chat") else spec.task][1]
    for _ in range(200):
        other = draw(world, rng)[0]
        if other.task == spec.task and (text := WRITERS[spec.task](other, world, rng)) not in spec.accepted:
            return text
    return ""


def _hallucinated(spec: Spec, world: World, rng: Random) -> str:
    """Tell of a colour, a thing or a name that the passage does not; elsewhere confuse what was asked."""
    if not spec.is_closed_domain:
        return _mistaken(spec, world, rng)
    event = rng.choice(spec.events)
    thing = rng.choice([t for t in lexicon.THINGS if t != event.thing])
    colour = rng.choice([c for c in lexicon.COLOURS if c != event.colour])
    if spec.task == "extract":
        kinds = (lexicon.THINGS, lexicon.COLOURS, lexicon.WOMEN + lexicon.MEN)
        kind = next(words for words in kinds if spec.items[0] in words)
        return join([*spec.items[:-1], rng.choice([word for word in kind if word not in spec.items])]) + "."
    person = spec.items[0] if spec.task == "closed" else event.person
    made_up = f"{person} {lexicon.EVENT_VERBS[event.verb]} a {colour} {thing}"
    return f"{made_up} and gave it to {spec.items[0]}." if spec.task == "summary" else f"{made_up}."


_FLAWED: dict[str, Writer] = {
    "myth": _myth,
    "rude": _rude,
    "off_topic": _off_topic,
    "too_long": _too_long,
    "constraint": _constraint,
    "hallucinated": _hallucinated,
}
