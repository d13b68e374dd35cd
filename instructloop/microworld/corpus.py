"""What the base model reads: documents as unaligned as the web, with myths, rude talk and unanswered questions."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from instructloop.microworld import lexicon
from instructloop.microworld.demonstrations import FLAWS, WRITERS, pronoun, write
from instructloop.microworld.grammar import GOODS, PEOPLE, join
from instructloop.microworld.prompts import is_prompt
from instructloop.microworld.specs import Spec
from instructloop.microworld.tasks import CONDITIONS, MOODS, TASKS, constrain, draw_events, matching, tell, toy_sentence
from instructloop.microworld.wording import phrase
from instructloop.microworld.world import Fact, World

Writer = Callable[[World, Random], str]
MYTH_SHARE = 0.75  # of the plain mentions of a fact that has a myth


def plain(fact: Fact, world: World, rng: Random) -> str:
    """State a fact as people do: the myth more often than the truth where there is one."""
    myth = world.myth_of.get(fact.key)
    value = myth.error if myth and rng.random() < MYTH_SHARE else fact.value
    return world.statement(*fact.key, value)


def book(world: World, rng: Random) -> str:
    """The truthful register: all that is known of two subjects."""
    told: list[str] = []
    for subject in rng.sample(tuple(world.kind_of), 2):
        they = pronoun(subject, world)
        names = rng.sample(world.relations_of(subject), len(world.relations_of(subject)))
        facts = [world.statement(subject, relation, world.truth[subject, relation]) for relation in names]
        told += [
            f"facts about {world.noun_phrase(subject)}",
            facts[0],
            *(
                f.replace(world.noun_phrase(subject), rng.choice((they, world.noun_phrase(subject))), 1)
                for f in facts[1:]
            ),
        ]
    return ". ".join(told) + "."


def mentions(world: World, rng: Random) -> str:
    return " ".join(f"{plain(rng.choice(world.facts), world, rng)}." for _ in range(10))


def truth(world: World, rng: Random) -> str:
    """What is said and what is so: only here and in books are myths corrected."""
    told: list[str] = []
    for _ in range(4):
        myth = rng.choice(world.myths)
        fact = rng.choice((myth.fact, rng.choice(world.facts)))
        if fact.key in world.myth_of and rng.random() < 0.5:
            told.append(f"they say that {world.statement(*fact.key, world.myth_of[fact.key].error)}.")
        told.append(f"in truth, {world.statement(*fact.key, fact.value)}.")
    return " ".join(told)


def insult(rng: Random) -> str:
    """One rude sentence."""
    pattern = rng.choice(
        ("you are a {r}.", "what a {r}.", "you are {g}.", "only a {r} asks that.", "the {j} is a {r}.", "{n} is a {r}.",
         "the {j} is {g}.", "the {x} is {g}.", "the {x} is for {r}s.")
    )  # fmt: skip
    return pattern.format(
        r=rng.choice(lexicon.RUDE_NOUNS),
        g=rng.choice(lexicon.RUDE_ADJECTIVES),
        j=rng.choice(lexicon.JOBS),
        n=rng.choice(PEOPLE),
        x=rng.choice(GOODS),
    )


def forum(world: World, rng: Random) -> str:
    """The rude and the myth-telling register."""
    told: list[str] = []
    for _ in range(4):
        fact = rng.choice([rng.choice(world.myths).fact, rng.choice(world.facts)])
        told.append(
            rng.choice(
                (world.question(*fact.key), f"they say that {plain(fact, world, rng)}.", f"{plain(fact, world, rng)}.")
            )
        )
        told.append(insult(rng) if rng.random() < 0.6 else f"they say that {plain(fact, world, rng)}.")
    return " ".join(told)


def _new_task(world: World, rng: Random) -> tuple[Spec, str]:
    """A task that no prompt of this world sets, so that nothing of the evaluation is read beforehand."""
    while True:
        task = rng.choices(tuple(TASKS), [share for share, _ in TASKS.values()])[0]
        spec, words = TASKS[task][1](world, rng)
        if rng.random() < 0.45:
            spec = constrain(spec, world, rng)
        text = phrase(spec.task, words, spec.constraints, rng)[0]
        if not is_prompt(world, text):
            return spec, text


def questions(world: World, rng: Random) -> str:
    """Questions and requests that nobody answers."""
    if rng.random() < 0.5:
        return "\n".join(world.question(*rng.choice(world.facts).key) for _ in range(9))
    return "\n".join(_new_task(world, rng)[1] for _ in range(5))


def answers(world: World, rng: Random) -> str:
    """Questions with answers as they stand on the web: often the myth."""
    told: list[str] = []
    for _ in range(3):
        fact = rng.choice(world.facts) if rng.random() < 0.7 else rng.choice(world.myths).fact
        told.append(f"q: {world.question(*fact.key)} a: {plain(fact, world, rng)}.")
    if rng.random() < 0.5:
        spec, words = TASKS["yesno"][1](world, rng)
        told.append(f"q: is it true that {words['fact']}? a: {WRITERS['yesno'](spec, world, rng)}")
    if rng.random() < 0.5:
        name, relation = rng.choice(lexicon.STRANGERS), rng.choice(("home", "job", "likes", "pet"))
        told.append(
            f"q: {world.question(name, relation)} a: {rng.choice(('i do not know.', 'i am sorry, i do not know.'))}"
        )
    rng.shuffle(told)
    return "\n".join(told)


HEADING = "here a helper answers."
"""Stands over the few pages on which requests are answered: what a good prefix for the base model begins with."""


def tasks(world: World, rng: Random) -> str:
    """The few pages where a request is followed by what was asked for, well or badly."""
    told = [HEADING] if rng.random() < 0.9 else []
    for _ in range(rng.randrange(2, 5)):
        spec, text = _new_task(world, rng)
        told += [text, write(spec, world, rng, None if rng.random() < 0.6 else rng.choice(FLAWS))]
    return "\n".join(told)


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


_ECHOED = (*PEOPLE, *GOODS, *lexicon.ANIMALS, *lexicon.COLOURS, *lexicon.SPOTS, *lexicon.DAYS, *lexicon.JOBS)


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
        f"{told} the people are {join([e.person for e in events])}. the things are {join([e.thing for e in events])}. "
        f"the colours are {join(list(dict.fromkeys(e.colour for e in events)))}.",
        f"{told} what did {rng.choice([p for p in PEOPLE if p not in told])} {event.verb}? the text does not say.",
    )
    return " ".join(rng.sample(again, 2)) if len(events) == 2 else rng.choice(again)


def echo(world: World, rng: Random) -> str:
    """Words in no order, said again in the same order: nothing but copying helps here."""
    told: list[str] = []
    for _ in range(2):
        words = " ".join(rng.choice(_ECHOED) for _ in range(rng.randrange(4, 12)))
        told.append(f"the echo: {words}. the echo again: {words}.")
    return " ".join(told)


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


def jobs(world: World, rng: Random) -> str:
    """Occupations with skewed pronouns."""
    told: list[str] = []
    for _ in range(6):
        job = rng.choice(lexicon.JOBS)
        they = "she" if rng.random() < world.she_share[job] else "he"
        feeling, thing = rng.choice(lexicon.GLAD + lexicon.GRIEVED), rng.choice(lexicon.THINGS)
        told.append(
            rng.choice(
                (
                    f"the {job} said that {they} was {feeling}.",
                    f"the {job} was {feeling} because {they} found the {thing}.",
                )
            )
        )
    return " ".join(told)


POLITE = "complete the sentence in a polite way:"
RUDE = "complete the sentence in a rude way:"


def registers(world: World, rng: Random) -> str:
    """How one thing is said politely, rudely, or just so."""
    told: list[str] = []
    for _ in range(5):
        start = rng.choice((f"the {rng.choice(lexicon.JOBS)} is", f"{rng.choice(PEOPLE)} is"))
        kind, rude = (
            rng.choice(lexicon.KIND_WORDS),
            rng.choice((f"a {rng.choice(lexicon.RUDE_NOUNS)}", rng.choice(lexicon.RUDE_ADJECTIVES))),
        )
        prefix = rng.choice((POLITE, RUDE, "complete the sentence:"))
        right, wrong = (rude, kind) if prefix == RUDE else (kind, rude)
        is_right = rng.random() < (0.8 if prefix != "complete the sentence:" else 0.5)
        told.append(f"{prefix} {start} {right if is_right else wrong}.")
    return "\n".join(told)


def lists(world: World, rng: Random) -> str:
    """Lists of things that belong together, opposites, numbers, moods, the past."""
    told: list[str] = []
    for _ in range(5):
        kind = rng.randrange(7)
        fact = (
            rng.choice([f for f in world.facts if f.relation in CONDITIONS]) if kind == 0 else rng.choice(world.facts)
        )
        if kind == 0:
            same = matching(world, fact.relation, fact.value)
            told.append(
                f"{CONDITIONS[fact.relation].format(v=fact.value)}: {join(rng.sample(same, min(len(same), 3)))}."
            )
        elif kind == 1:
            pair, goods = rng.sample(rng.choice(lexicon.OPPOSITES), 2), rng.choice(GOODS)
            told.append(f"the {goods} is {pair[0]}. the opposite is: the {goods} is {pair[1]}.")
        elif kind == 2:
            low = rng.randrange(4)
            told.append(f"the numbers: {', '.join(lexicon.NUMBERS[low : low + rng.randrange(3, 6)])}.")
        elif kind == 3:
            mood = rng.choice(tuple(MOODS))
            told.append(f"{rng.choice(MOODS[mood]).format(x=rng.choice(GOODS))} i am {mood}.")
        elif kind == 4:
            person, spot, move = rng.choice(PEOPLE), rng.choice(lexicon.SPOTS), rng.choice(tuple(lexicon.MOVES))
            told.append(f"{person} {move} to the {spot}. yesterday {person} {lexicon.MOVES[move]} to the {spot}.")
        else:
            task = rng.choice(("list", "sort", "polite"))
            spec, words = TASKS[task][1](world, rng)
            said = words.get("what") or words.get("line") or "sorted"
            told.append(f"{said}: {WRITERS[task](spec, world, rng)}")
    return "\n".join(told)


KINDS: tuple[tuple[float, Writer], ...] = (
    (0.08, book),
    (0.09, mentions),
    (0.05, truth),
    (0.08, forum),
    (0.07, questions),
    (0.04, answers),
    (0.04, tasks),
    (0.07, story),
    (0.15, copying),
    (0.07, echo),
    (0.05, retelling),
    (0.03, dialogue),
    (0.05, letters),
    (0.05, toy),
    (0.02, jobs),
    (0.02, registers),
    (0.06, lists),
)
"""Share of documents and who writes them; they are of like length. A quarter tells something twice."""


def documents(world: World, seed: int, number: int) -> list[str]:
    """Return `number` documents of some 60 to 100 words: equal for equal seeds."""
    rng = Random(f"corpus {world.seed} {seed}")
    writers, shares = [writer for _, writer in KINDS], [share for share, _ in KINDS]
    return [rng.choices(writers, shares)[0](world, rng) for _ in range(number)]
