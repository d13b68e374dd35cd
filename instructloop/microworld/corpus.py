"""What the base model reads: documents as unaligned as the web, with myths, rude talk and unanswered questions."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from instructloop.microworld import lexicon
from instructloop.microworld.constraints import constrain
from instructloop.microworld.demonstrations import FLAWS, WRITERS, pronoun, write
from instructloop.microworld.grammar import GOODS, PEOPLE, join
from instructloop.microworld.prompts import is_prompt
from instructloop.microworld.registers import POLITE as POLITE
from instructloop.microworld.registers import RUDE as RUDE
from instructloop.microworld.registers import insult, jobs, registers
from instructloop.microworld.specs import Spec
from instructloop.microworld.tasks import CONDITIONS, MOODS, TASKS, matching
from instructloop.microworld.twice import copying, dialogue, letters, retelling, story, toy
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
            task = rng.choice(("list", "list", "list_where", "sort", "count", "repeat"))
            spec, words = TASKS[task][1](world, rng)
            said = (" of the " if task == "list_where" else " ").join(words.values())
            told.append(f"{said}: {WRITERS[task](spec, world, rng)}")
    return "\n".join(told)


KINDS: tuple[tuple[float, Writer], ...] = (
    (0.08, book),
    (0.08, mentions),
    (0.05, truth),
    (0.07, forum),
    (0.06, questions),
    (0.04, answers),
    (0.05, tasks),
    (0.07, story),
    (0.17, copying),
    (0.06, retelling),
    (0.03, dialogue),
    (0.09, letters),
    (0.04, toy),
    (0.02, jobs),
    (0.02, registers),
    (0.07, lists),
)
"""Share of documents and who writes them; they are of like length. A quarter tells something twice."""


def documents(world: World, seed: int, number: int) -> list[str]:
    """Return `number` documents of some 60 to 100 words: equal for equal seeds."""
    rng = Random(f"corpus {world.seed} {seed}")
    writers, shares = [writer for _, writer in KINDS], [share for share, _ in KINDS]
    return [rng.choices(writers, shares)[0](world, rng) for _ in range(number)]
