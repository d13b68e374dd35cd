"""What a policy may lose while it is aligned: cloze, question answering, translation, multiple choice, plain text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random
from typing import Any

from instructloop.microworld import lexicon
from instructloop.microworld.corpus import documents
from instructloop.microworld.demonstrations import pronoun
from instructloop.microworld.grammar import GOODS
from instructloop.microworld.miniature import Checker, Choice, Miniature, Query, Scoring, num_tokens, with_shots
from instructloop.microworld.prompts import raw_prompts
from instructloop.microworld.specs import Event, Spec
from instructloop.microworld.tasks import MOODS, draw_events, tell, toy_sentence
from instructloop.microworld.world import RELATION, Fact, World

CORPUS_SEED_OFFSET = 1_000_003  # held-out documents come from a seed that no pretraining text uses


def tax(world: World, seed: int, *, context: int) -> list[Miniature]:
    """Return the tasks of the alignment tax, and documents for the held-out loss; all as bare text (`is_raw`)."""
    rng = Random(f"alignment tax {world.seed} {seed}")
    facts = [fact for fact in world.facts if fact.key in world.reserved and fact.key not in world.myth_of]
    rng.shuffle(facts)
    return [
        cloze(world, facts, rng),
        *fact_qa(world, facts, context),
        *closed_qa(world, rng, context),
        *translation(world, rng, context),
        story_endings(world, rng),
        mood(world, rng),
        Miniature(
            "held_out_loss",
            "corpus",
            "Documents that nobody was trained on",
            "",
            "loss",
            held_out_documents(world, seed, context),
        ),
    ]


def held_out_documents(world: World, seed: int, context: int, *, number: int = 64) -> list[str]:
    """Return documents that fit the context whole, of a seed that pretraining text never comes from."""
    written = documents(world, seed + CORPUS_SEED_OFFSET, 3 * number)
    return [text for text in written if num_tokens(text) + 2 <= context][:number]


def qa(world: World, fact: Fact) -> str:
    """`q: where does the fox live? a: the fox lives in the forest.`"""
    return f"q: {world.question(*fact.key)} a: {world.statement(*fact.key, fact.value)}."


def cloze(world: World, facts: Sequence[Fact], rng: Random, *, num_choices: int = 6) -> Miniature:
    """Return true statements, each with up to five of its kind that are false: which value comes last?"""
    items: list[Choice] = []
    for fact in facts:
        before, after = world.statement(*fact.key, "\0").split(" \0")
        wrong = [v for v in RELATION[fact.relation].values if v not in (fact.value, fact.subject)]
        values = rng.sample(wrong, min(num_choices - 1, len(wrong)))
        values.insert(gold := rng.randrange(len(values) + 1), fact.value)
        items.append(Choice(before, tuple(f" {value}{after}." for value in values), gold, fact.subject))
    return Miniature("alignment_tax", "cloze", "Cloze: which word makes the sentence true", "0_shot", "choice", items)


def fact_qa(world: World, facts: Sequence[Fact], context: int, *, num_shots: int = 6) -> list[Miniature]:
    """Return questions about facts, without and with examples; `right`: the true value is named and no other."""
    short = sorted(facts[: 3 * num_shots], key=lambda fact: num_tokens(qa(world, fact)))[:num_shots]
    shots, asked = [qa(world, fact) for fact in short], [fact for fact in facts if fact not in short]
    queries = [f"q: {world.question(*fact.key)} a:" for fact in asked]

    def is_right(text: str, fact: Fact) -> float:
        named = set(re.findall(r"[a-z]+", text.lower())) & (set(RELATION[fact.relation].values) - {fact.subject})
        return float(named == {fact.value})

    return _shot_groups(
        "fact_qa",
        "Questions about the world",
        "check",
        queries,
        shots,
        lambda i: (asked[i], asked[i].subject),
        context=context,
        max_new_tokens=12,
        checkers={"right": is_right},
    )


def passage(world: World, rng: Random, kinds: Sequence[str]) -> tuple[Spec, str]:
    """Return a new passage of two events with a question about it, and the question alone.

    `kinds` is drawn from: the passage tells what is asked (`what`, `who`) or not (`unsaid`).
    """
    while True:
        events = draw_events(rng, 3)
        told = " ".join(map(tell, events[:2]))
        if not is_in_prompts(world, told):
            break
    kind = rng.choice(list(kinds))
    asked = events[2] if kind == "unsaid" else rng.choice(events[:2])
    past = lexicon.EVENT_VERBS[asked.verb]
    question = f"who {past} the {asked.thing}?" if kind == "who" else f"what did {asked.person} {asked.verb}?"
    accepted = {"what": (_thing(asked), f"a {asked.thing}"), "who": (asked.person,), "unsaid": ()}[kind]
    spec = Spec(
        "closed",
        "closed_qa",
        f"{told} {question}",
        subject=kind,
        items=(asked.person,),
        events=events[:2],
        accepted=accepted,
    )
    return spec, question


def _thing(event: Event) -> str:
    return f"a {event.colour} {event.thing}"


@lru_cache(maxsize=4)
def _all_prompts(world: World) -> str:
    return "\n".join(prompt.text for prompt in raw_prompts(world))


def is_in_prompts(world: World, text: str) -> bool:
    """Return whether any prompt of the world holds `text`: such an item would have been trained on."""
    return text in _all_prompts(world)


def closed_qa(world: World, rng: Random, context: int, *, num_items: int = 48, num_shots: int = 3) -> list[Miniature]:
    """Return questions whose answers stand in a passage, without and with examples; scored by `f1_of_news`."""
    drawn = [passage(world, rng, ("what", "what", "who")) for _ in range(num_items + num_shots)]

    def statement(spec: Spec) -> str:
        return tell(next(event for event in spec.events if event.person == spec.items[0]))

    shots = [f"{spec.text} {statement(spec)}" for spec, _ in drawn[:num_shots]]
    asked = [spec for spec, _ in drawn[num_shots:]]
    questions = [question for _, question in drawn[num_shots:]]

    def references(i: int) -> tuple[Any, str]:
        return (questions[i], (statement(asked[i]), asked[i].accepted[0])), asked[i].text

    return _shot_groups(
        "closed_qa",
        "Questions about a passage",
        "check",
        [spec.text for spec in asked],
        shots,
        references,
        context=context,
        max_new_tokens=12,
        checkers={"F1": f1_of_news},
        paper="squadv2",
    )


def f1_of_news(text: str, references: tuple[str, Sequence[str]]) -> float:
    """Return the best F1 between the words of `text` and of a reference that the question does not hold, articles out.

    Plain F1 would give a full sentence with the wrong thing in it most of the points, for what the question said.
    """
    question, right = references
    known = {*re.findall(r"[a-z]+", question), "a", "an", "the"}

    def news(sentence: str) -> Counter[str]:
        return Counter(word for word in re.findall(r"[a-z]+", sentence.lower()) if word not in known)

    said = news(text)
    scores = [2 * (said & one).total() / (said.total() + one.total()) for one in map(news, right) if one]
    return max(scores)


def translation(world: World, rng: Random, context: int, *, num_items: int = 40, num_shots: int = 6) -> list[Miniature]:
    """Return sentences of the toy language to be put into English, without and with examples; corpus BLEU."""
    english: dict[str, None] = {}
    while len(english) < num_items + num_shots:
        sentence = toy_sentence(rng)
        if not is_in_prompts(world, world.translate(sentence)):
            english[sentence] = None
    pairs = [(f"{world.translate(sentence)}. in english:", f"{sentence}.") for sentence in english]
    asked = pairs[num_shots:]
    return _shot_groups(
        "translation",
        "Translation from the toy language",
        "bleu",
        [toy for toy, _ in asked],
        [f"{toy} {sentence}" for toy, sentence in pairs[:num_shots]],
        lambda i: ((asked[i][1],), asked[i][1]),
        context=context,
        max_new_tokens=12,
        paper="fr_en",
    )


def story_endings(world: World, rng: Random, *, num_items: int = 60) -> Miniature:
    """Return beginnings of stories with four ways to go on; one is about the right person and the right animal."""
    items: list[Choice] = []
    for _ in range(num_items):
        name, spot = rng.choice(lexicon.WOMEN + lexicon.MEN), rng.choice(lexicon.SPOTS)
        (animal, other), food = rng.sample(lexicon.ANIMALS, 2), rng.choice(lexicon.FOODS)
        they = pronoun(name, world)
        wrong = "he" if they == "she" else "she"
        ways = [f" {who} gave the {which} some {food}." for who in (they, wrong) for which in (animal, other)]
        order = rng.sample(range(4), 4)
        start = f"{name} {rng.choice(tuple(lexicon.MOVES.values()))} to the {spot}. {they} met a {animal}."
        items.append(Choice(start, tuple(ways[i] for i in order), order.index(0), start))
    title = "Story endings: which one goes on"
    return Miniature("alignment_tax", "story", title, "0_shot", "choice", items, paper="hellaswag_0_shot")


def mood(world: World, rng: Random, *, num_items: int = 60) -> Miniature:
    """Return sentences of someone happy or sad: which word is true of the writer?"""
    lines = [(text.format(x=x), name) for name, texts in MOODS.items() for text in texts for x in GOODS]
    drawn = rng.sample([(line, name) for line, name in lines if not is_in_prompts(world, line)], num_items)
    names = tuple(MOODS)
    choices = tuple(f" {name}." for name in names)
    items = [Choice(f"{line} i am", choices, names.index(name), line) for line, name in drawn]
    return Miniature("alignment_tax", "mood", "Happy or sad", "0_shot", "choice", items)


def _shot_groups(
    name: str,
    title: str,
    scoring: Scoring,
    queries: Sequence[str],
    shots: Sequence[str],
    references: Callable[[int], tuple[Any, str]],
    *,
    context: int,
    max_new_tokens: int,
    checkers: dict[str, Checker] | None = None,
    paper: str | None = None,
) -> list[Miniature]:
    """The same queries without and with examples; `references`: what query i is scored against, and its cluster."""
    groups = {"0_shot": queries, "few_shot": with_shots(shots, queries, context - max_new_tokens - 2)}
    return [
        Miniature(
            "alignment_tax",
            name,
            title,
            group,
            scoring,
            [Query(text, *references(i)) for i, text in enumerate(texts)],
            paper=f"{paper}_{group}" if paper else None,
            checkers=checkers or {},
            max_new_tokens=max_new_tokens,
        )
        for group, texts in groups.items()
    ]
