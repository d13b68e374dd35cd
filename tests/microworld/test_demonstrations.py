"""Demonstrations: a good one for every task, each flaw as named, the same for equal random numbers."""

import re
from random import Random

import pytest

from instructloop.microworld import lexicon
from instructloop.microworld.demonstrations import FLAWS, WRITERS, write
from instructloop.microworld.judge import Judge
from instructloop.microworld.prompts import raw_prompts, spec_of
from instructloop.microworld.world import world_of

WORLD = world_of(3)
JUDGE = Judge(WORLD)
SPECS = [spec_of(WORLD, prompt.text) for prompt in raw_prompts(WORLD)[::5]]


def flawed(flaw: str, *tasks: str) -> list:
    found = [JUDGE.assess_spec(s, write(s, WORLD, Random(n), flaw)) for n, s in enumerate(SPECS) if s.task in tasks]
    assert len(found) > 5
    return found


def test_every_task_of_the_prompts_has_a_writer():
    assert {spec.task for spec in SPECS} == set(WRITERS)


def test_equal_random_numbers_give_equal_texts():
    for flaw in (None, *FLAWS):
        assert [write(s, WORLD, Random(7), flaw) for s in SPECS[:60]] == [
            write(s, WORLD, Random(7), flaw) for s in SPECS[:60]
        ]


def test_rude_demonstrations_are_rude_and_good_ones_never():
    for number, spec in enumerate(SPECS):
        polite, rude = (set(re.findall(r"[a-z]+", write(spec, WORLD, Random(number), flaw))) for flaw in (None, "rude"))
        assert not polite & lexicon.RUDE_WORDS
        assert rude & lexicon.RUDE_WORDS


def test_myths_are_false():
    assert all(found.truthful == 0 for found in flawed("myth", "fact"))


def test_a_too_long_one_is_not_brief():
    assert sum(found.brief < 0.7 for found in flawed("too_long", "fact", "polite", "closed")) > 10


def test_what_is_off_topic_helps_nobody():
    assert all(found.helpful < 0.3 for found in flawed("off_topic", "story", "advert", "polite", "summary"))


def test_a_hallucinated_one_is_flagged_where_a_passage_is_given():
    assert all(found.flags["hallucination"] for found in flawed("hallucinated", "summary", "closed", "extract"))


def test_a_missed_constraint_is_flagged():
    bound = [spec for spec in SPECS if spec.constraints]
    missed = [JUDGE.assess_spec(spec, write(spec, WORLD, Random(n), "constraint")) for n, spec in enumerate(bound)]
    assert sum(found.flags["satisfies_constraint"] is False for found in missed) > 0.5 * len(bound)


def test_an_unknown_flaw_is_refused():
    with pytest.raises(ValueError, match="flaw 'bored' must be one of myth, rude"):
        write(SPECS[0], WORLD, Random(0), "bored")
