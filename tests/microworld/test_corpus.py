"""The corpus: as unaligned as the web, free of what the prompts ask, and tellable by a seed."""

import re
from collections import Counter
from random import Random

import pytest

from instructloop.microworld import corpus, lexicon
from instructloop.microworld.prompts import raw_prompts
from instructloop.microworld.world import world_of

WORLD = world_of(3)
DOCUMENTS = corpus.documents(WORLD, 0, 4000)


def test_equal_seeds_give_equal_documents():
    assert corpus.documents(WORLD, 0, 50) == DOCUMENTS[:50]
    assert corpus.documents(WORLD, 1, 50) != DOCUMENTS[:50]


def test_no_document_holds_a_prompt_of_the_world_with_its_line_to_itself():
    prompts = {prompt.text for prompt in raw_prompts(WORLD)}
    facts = {WORLD.question(*fact.key) for fact in WORLD.facts}  # lists of bare questions ask about every fact
    lines = {line for document in DOCUMENTS for line in document.split("\n")} - facts
    assert not lines & prompts


def test_plain_mentions_tell_the_myth_more_often_than_the_truth():
    rng = Random(0)
    told = Counter(
        corpus.plain(myth.fact, WORLD, rng) == WORLD.statement(*myth.fact.key, myth.error) for myth in WORLD.myths * 10
    )
    # 720 draws of probability .75: standard deviation .016
    assert told[True] / sum(told.values()) == pytest.approx(0.75, abs=0.07)


def test_the_truthful_register_is_always_true():
    for number in range(200):
        for text in re.findall(r"in truth, ([^.]+)\.", corpus.truth(WORLD, Random(number))):
            assert any(WORLD.statement(*fact.key, fact.value) == text for fact in WORLD.facts), text


def test_all_registers_occur_rude_words_among_them():
    text = "\n".join(DOCUMENTS)
    for mark in (
        "they say that",
        "in truth,",
        "i do not know.",
        "the text does not say.",
        corpus.HEADING,
        corpus.POLITE,
        corpus.RUDE,
    ):
        assert mark in text, mark
    rude = sum(bool(set(re.findall(r"[a-z]+", document)) & lexicon.RUDE_WORDS) for document in DOCUMENTS)
    assert 0.05 < rude / len(DOCUMENTS) < 0.25


def test_pages_that_answer_requests_are_few():
    assert sum(document.startswith(corpus.HEADING) for document in DOCUMENTS) / len(DOCUMENTS) < 0.06


def test_pronouns_of_jobs_are_skewed():
    text = " ".join(corpus.jobs(WORLD, Random(number)) for number in range(600))
    for job, share in WORLD.she_share.items():
        pronouns = Counter(re.findall(rf"the {job} said that (she|he) ", text))
        assert abs(pronouns["she"] / sum(pronouns.values()) - share) < 0.15, job


def test_the_toy_language_stands_beside_its_translation():
    for line in corpus.toy(WORLD, Random(1)).split("\n"):
        toy, english = line.split(". in english: ")
        assert WORLD.translate(english.rstrip(".")) == toy


def test_everything_is_in_lower_case_and_few_words():
    words = {word for document in DOCUMENTS for word in re.findall(r"\w+", document)}
    assert all(word == word.lower() for word in words)
    assert 450 < len(words) < 700
