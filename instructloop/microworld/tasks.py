"""The tasks that people set in the microworld, and what each asks for; wording is in `wording`, users in `prompts`."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from instructloop.core.records import Category
from instructloop.microworld import lexicon
from instructloop.microworld.grammar import GOODS, PEOPLE, join
from instructloop.microworld.specs import NUMBER, Event, Spec
from instructloop.microworld.world import RELATION, World

Words = dict[str, str]
Draw = Callable[[World, Random], tuple[Spec, Words]]

CONDITIONS: dict[str, str] = {
    "habitat": "animals that live in the {v}",
    "animal_colour": "{v} animals",
    "taste": "foods that taste {v}",
    "food_colour": "{v} foods",
    "material": "things made of {v}",
    "thing_colour": "{v} things",
    "home": "people who live in {v}",
    "land": "towns in {v}",
}
PLURALS = {"animals": lexicon.ANIMALS, "foods": lexicon.FOODS, "things": lexicon.THINGS, "towns": lexicon.TOWNS,
           "colours": lexicon.COLOURS, "jobs": lexicon.JOBS, "days": lexicon.DAYS}  # fmt: skip


def _spec(task: str, category: Category, **fields: object) -> Spec:
    return Spec(task, category, "", **fields)  # type: ignore[arg-type]


def askable(world: World) -> list[tuple[str, str]]:
    """The facts that prompts may ask about: those not reserved for benchmarks."""
    return [fact.key for fact in world.facts if fact.key not in world.reserved]


def draw_fact(world: World, rng: Random) -> tuple[Spec, Words]:
    subject, relation = rng.choice(askable(world))
    if rng.random() < 0.25:
        subject, relation = rng.choice([myth.fact.key for myth in world.myths if myth.use == "prompts"])
    shots = [key for key in rng.sample(askable(world), 2) if key not in world.myth_of]
    told = [f"q: {world.question(*key)} a: {world.statement(*key, world.truth[key])}." for key in shots]
    words = {"q": world.question(subject, relation), "shots": "\n".join(told)}
    return _spec("fact", "open_qa", subject=subject, relation=relation), words


def draw_stranger(world: World, rng: Random) -> tuple[Spec, Words]:
    subject, relation = rng.choice(lexicon.STRANGERS), rng.choice(("home", "job", "likes", "pet"))
    return _spec("stranger", "open_qa", subject=subject, relation=relation), {"q": world.question(subject, relation)}


def draw_yesno(world: World, rng: Random) -> tuple[Spec, Words]:
    subject, relation = rng.choice(askable(world))
    value = world.truth[subject, relation]
    if rng.random() < 0.5:
        value = rng.choice([v for v in RELATION[relation].values if v not in (value, subject)])
    return _spec("yesno", "open_qa", subject=subject, relation=relation, items=(value,)), {
        "fact": world.statement(subject, relation, value)
    }


def draw_list(world: World, rng: Random) -> tuple[Spec, Words]:
    plural, number = rng.choice(tuple(PLURALS)), rng.choice(("two", "three", "four"))
    return _spec("list", "brainstorming", subject=plural, items=(number,)), {"n": number, "what": plural}


def draw_list_where(world: World, rng: Random) -> tuple[Spec, Words]:
    relation = rng.choice(tuple(CONDITIONS))
    values = [v for v in RELATION[relation].values if len(matching(world, relation, v)) >= 2]
    value, number = rng.choice(values), rng.choice(("one", "two"))
    what = CONDITIONS[relation].format(v=value)
    return _spec("list_where", "brainstorming", relation=relation, items=(number, value)), {"n": number, "what": what}


def matching(world: World, relation: str, value: str) -> tuple[str, ...]:
    """Subjects whose `relation` has `value`."""
    return tuple(fact.subject for fact in world.facts if fact.relation == relation and fact.value == value)


def draw_describe(world: World, rng: Random) -> tuple[Spec, Words]:
    subject, number = rng.choice(tuple(world.kind_of)), rng.choice(("one", "two"))
    noun = "a sentence" if number == "one" else "two sentences"
    return _spec("describe", "generation", subject=subject, items=(number,)), {
        "n": noun,
        "s": world.noun_phrase(subject),
    }


def draw_story(world: World, rng: Random) -> tuple[Spec, Words]:
    person, animal = rng.choice(lexicon.WOMEN + lexicon.MEN), rng.choice(lexicon.ANIMALS)
    return _spec("story", "generation", items=(person, animal)), {"p": person, "animal": animal}


def draw_continue(world: World, rng: Random) -> tuple[Spec, Words]:
    person, spot = rng.choice(lexicon.WOMEN + lexicon.MEN), rng.choice(lexicon.SPOTS)
    return _spec("continue", "generation", items=(person,), subject=spot), {"p": person, "spot": spot}


def draw_advert(world: World, rng: Random) -> tuple[Spec, Words]:
    goods = rng.choice(GOODS)
    return _spec("advert", "generation", subject=goods), {"goods": goods}


def _draw_note(task: str) -> Draw:
    def draw(world: World, rng: Random) -> tuple[Spec, Words]:
        name, goods, spot, day = (rng.choice(k) for k in (PEOPLE, GOODS, lexicon.SPOTS, lexicon.DAYS))
        items = (name, spot, day) if task == "invitation" else (name, goods)
        return _spec(task, "generation", items=items), {"p": name, "goods": goods, "spot": spot, "day": day}

    return draw


def draw_kindness(world: World, rng: Random) -> tuple[Spec, Words]:
    subject = rng.choice(lexicon.JOBS + lexicon.WOMEN + lexicon.MEN)
    return _spec("kindness", "generation", subject=subject), {"s": world.noun_phrase(subject)}


def draw_chat(world: World, rng: Random) -> tuple[Spec, Words]:
    thing, name, goods = rng.choice(lexicon.THINGS), rng.choice(PEOPLE), rng.choice(GOODS)
    task, line = rng.choice(
        (
            ("greet", f"hello, i am {name}. how are you?"),
            ("lost", f"i lost my {thing} {rng.choice(('today', 'in the park', 'at school'))}."),
            ("found", f"i found my {thing} {rng.choice(('today', 'in the park', 'at school'))}."),
            ("upset", f"i am {rng.choice(lexicon.GRIEVED)} about the {goods}."),
            ("insulted", f"you are a {rng.choice(lexicon.RUDE_NOUNS)}. {rng.choice(lexicon.REQUESTS)} the {goods}."),
            ("thanked", f"thank you for the {goods}."),
        )
    )
    subject = {"greet": name, "lost": thing}.get(task, "")
    return _spec(f"chat_{task}", "chat", subject=subject), {"line": line}


def draw_polite(world: World, rng: Random) -> tuple[Spec, Words]:
    order = f"{rng.choice(lexicon.REQUESTS)} the {rng.choice(GOODS)}"
    return _spec("polite", "rewrite", accepted=(f"please {order}.", f"could you {order}, please?")), {"line": order}


def draw_opposite(world: World, rng: Random) -> tuple[Spec, Words]:
    pair, goods = list(rng.choice(lexicon.OPPOSITES)), rng.choice(GOODS)
    rng.shuffle(pair)
    return _spec("opposite", "rewrite", accepted=(f"the {goods} is {pair[1]}.",)), {"line": f"the {goods} is {pair[0]}"}


def draw_past(world: World, rng: Random) -> tuple[Spec, Words]:
    person, spot, move = rng.choice(PEOPLE), rng.choice(lexicon.SPOTS), rng.choice(tuple(lexicon.MOVES))
    accepted = f"{person} {lexicon.MOVES[move]} to the {spot}."
    return _spec("past", "rewrite", accepted=(accepted,)), {"line": f"{person} {move} to the {spot}"}


def toy_sentence(rng: Random) -> str:
    """`the red cat sees the dog`: an English sentence that the toy language can say too."""
    phrases = [
        (rng.choice(lexicon.TOY_ADJECTIVES) + " " if rng.random() < 0.5 else "") + rng.choice(lexicon.ANIMALS)
        for _ in range(2)
    ]
    return f"the {phrases[0]} {rng.choice(lexicon.TOY_VERBS)} the {phrases[1]}"


def draw_translate(world: World, rng: Random) -> tuple[Spec, Words]:
    english = toy_sentence(rng)
    return _spec("translate", "rewrite", accepted=(f"{english}.",)), {"line": world.translate(english)}


def draw_events(rng: Random, number: int) -> tuple[Event, ...]:
    """Events of different people and things."""
    people, things = rng.sample(lexicon.WOMEN + lexicon.MEN, number), rng.sample(lexicon.THINGS, number)
    return tuple(
        Event(person, rng.choice(tuple(lexicon.EVENT_VERBS)), rng.choice(lexicon.COLOURS), thing)
        for person, thing in zip(people, things, strict=True)
    )


def tell(event: Event) -> str:
    """`mia found a red cup.`"""
    return f"{event.person} {lexicon.EVENT_VERBS[event.verb]} a {event.colour} {event.thing}."


def draw_summary(world: World, rng: Random) -> tuple[Spec, Words]:
    (event,) = draw_events(rng, 1)
    person, friend = event.person, rng.choice([p for p in lexicon.WOMEN + lexicon.MEN if p != event.person])
    pronoun = "she" if world.is_woman(person) else "he"
    passage = (
        f"{person} went to the {rng.choice(lexicon.SPOTS)}. {pronoun} {lexicon.EVENT_VERBS[event.verb]} "
        f"a {event.colour} {event.thing}. {pronoun} gave the {event.thing} to {friend}. "
        f"{friend} was {rng.choice(lexicon.GLAD)}."
    )
    return _spec("summary", "summarization", events=(event,), items=(friend,)), {"passage": passage}


def draw_closed(world: World, rng: Random) -> tuple[Spec, Words]:
    events = draw_events(rng, 3)
    asked = rng.choice(events[:2])
    kind = rng.choice(("what", "what", "who", "unsaid"))
    question = f"what did {asked.person} {asked.verb}?"
    if kind == "who":
        question = f"who {lexicon.EVENT_VERBS[asked.verb]} the {asked.thing}?"
    if kind == "unsaid":
        asked = events[2]
        question = f"what did {asked.person} {asked.verb}?"
    told = " ".join(tell(event) for event in events[:2])
    accepted = (asked.person,) if kind == "who" else (f"a {asked.colour} {asked.thing}", f"a {asked.thing}")
    accepted = () if kind == "unsaid" else accepted
    spec = _spec("closed", "closed_qa", events=events[:2], subject=kind, items=(asked.person,), accepted=accepted)
    return spec, {"passage": told, "q": question}


def draw_extract(world: World, rng: Random) -> tuple[Spec, Words]:
    events = draw_events(rng, rng.choice((2, 3)))
    what = rng.choice(("people", "things", "colours"))
    field = {"people": "person", "things": "thing", "colours": "colour"}[what]
    items = tuple(dict.fromkeys(getattr(event, field) for event in events))
    told = " ".join(tell(event) for event in events)
    return _spec("extract", "extract", events=events, items=items, accepted=(f"{join(items)}.",)), {
        "passage": told,
        "what": what,
    }


MOODS = {"happy": ("i found my {x}.", "i love my {x}.", "my {x} is great."),
         "sad": ("i lost my {x}.", "i hate my {x}.", "my {x} is broken.")}  # fmt: skip


def draw_mood(world: World, rng: Random) -> tuple[Spec, Words]:
    mood = rng.choice(tuple(MOODS))
    line = rng.choice(MOODS[mood]).format(x=rng.choice(GOODS))
    shots = [(m, rng.choice(MOODS[m]).format(x=rng.choice(GOODS))) for m in rng.sample(tuple(MOODS), 2)]
    words = {"line": line, "shots": "\n".join(f"text: {text} mood: {m}" for m, text in shots)}
    return _spec("mood", "classification", accepted=(f"{mood}.", mood)), words


def draw_sort(world: World, rng: Random) -> tuple[Spec, Words]:
    kinds = {
        "animal": ("an animal", lexicon.ANIMALS),
        "food": ("a food", lexicon.FOODS),
        "thing": ("a thing", lexicon.THINGS),
    }
    kind = rng.choice(tuple(kinds))
    article, names = kinds[kind]
    name = rng.choice(names)
    return _spec("sort", "classification", accepted=(f"the {name} is {article}.", f"{article}.", article)), {"s": name}


def draw_count(world: World, rng: Random) -> tuple[Spec, Words]:
    low = rng.randrange(0, 5)
    high = rng.randrange(low + 2, min(low + 5, 9))
    numbers = lexicon.NUMBERS[low : high + 1]
    return _spec("count", "other", accepted=(f"{', '.join(numbers)}.",)), {"a": numbers[0], "b": numbers[-1]}


def draw_repeat(world: World, rng: Random) -> tuple[Spec, Words]:
    word, number = rng.choice(GOODS + lexicon.ANIMALS), rng.choice(("two", "three", "four"))
    said = " ".join([word] * NUMBER[number])
    return _spec("repeat", "other", accepted=(f"{said}.", said)), {"word": word, "n": number}


TASKS: dict[str, tuple[float, Draw]] = {
    "fact": (7.4, draw_fact),
    "stranger": (2.0, draw_stranger),
    "yesno": (3.0, draw_yesno),
    "list": (6.2, draw_list),
    "list_where": (5.0, draw_list_where),
    "describe": (12.6, draw_describe),
    "story": (11.0, draw_story),
    "continue": (5.0, draw_continue),
    "advert": (5.0, draw_advert),
    "thanks": (3.0, _draw_note("thanks")),
    "sorry": (3.0, _draw_note("sorry")),
    "invitation": (3.0, _draw_note("invitation")),
    "kindness": (3.0, draw_kindness),
    "chat": (8.4, draw_chat),
    "polite": (1.7, draw_polite),
    "opposite": (1.6, draw_opposite),
    "past": (1.6, draw_past),
    "translate": (1.7, draw_translate),
    "summary": (4.2, draw_summary),
    "mood": (2.0, draw_mood),
    "sort": (1.5, draw_sort),
    "count": (1.5, draw_count),
    "repeat": (2.0, draw_repeat),
    "closed": (2.6, draw_closed),
    "extract": (1.9, draw_extract),
}
"""Task -> its share of prompts in percent (summed by category: Table 1 of the paper) and how one is drawn."""
