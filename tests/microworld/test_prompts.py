"""The prompts: Table 1's proportions, users, dirt to clean, and nothing asked of the benchmarks' share of the world."""

from collections import Counter

import pytest

from instructloop.core.prompts import contains_pii
from instructloop.microworld.prompts import EAGER_USER, raw_prompts, spec_of
from instructloop.microworld.world import World, world_of

WORLD = world_of(3)
PROMPTS = raw_prompts(WORLD)
SPECS = [spec_of(WORLD, prompt.text) for prompt in PROMPTS]
TABLE_1 = {  # percent, paper section 3.2
    "generation": 45.6,
    "open_qa": 12.4,
    "brainstorming": 11.2,
    "chat": 8.4,
    "rewrite": 6.6,
    "summarization": 4.2,
    "classification": 3.5,
    "other": 3.5,
    "closed_qa": 2.6,
    "extract": 1.9,
}


def test_categories_come_in_the_proportions_of_table_1():
    shares = Counter(prompt.category for prompt in PROMPTS)
    for category, percent in TABLE_1.items():
        assert abs(100 * shares[category] / len(PROMPTS) - percent) < 2.5, category


def test_all_kinds_and_sources_occur_and_users_are_many():
    assert {prompt.kind for prompt in PROMPTS} == {"plain", "few_shot", "user_based"}
    assert {prompt.source for prompt in PROMPTS} == {"customer", "labeler"}
    assert len({prompt.user for prompt in PROMPTS}) >= 120
    assert all(prompt.split is None for prompt in PROMPTS)


def test_about_a_quarter_of_the_prompts_make_explicit_demands():
    # 26 % in the paper's Table 7.
    assert 0.2 < sum(bool(spec.constraints) for spec in SPECS) / len(SPECS) < 0.32


def test_there_is_something_to_clean():
    assert Counter(prompt.user for prompt in PROMPTS)[EAGER_USER] > 200
    assert 20 <= sum(contains_pii(prompt.text) for prompt in PROMPTS) <= 60
    texts = {prompt.text for prompt in PROMPTS}
    assert sum(text.rpartition("\n")[0] in texts for text in texts) == 60


def test_no_prompt_stands_twice():
    assert len({prompt.text for prompt in PROMPTS}) == len(PROMPTS)


def test_nothing_is_asked_about_facts_that_are_kept_for_benchmarks():
    asked = {(spec.subject, spec.relation) for spec in SPECS if spec.task in ("fact", "yesno")}
    assert asked
    assert not asked & WORLD.reserved


def test_many_questions_meet_a_myth():
    asked = {(spec.subject, spec.relation) for spec in SPECS if spec.task == "fact"}
    assert len([myth for myth in WORLD.myths if myth.fact.key in asked]) >= 20


def test_a_prompt_leads_back_to_what_it_asks():
    assert all(
        spec.text == prompt.text and spec.category == prompt.category
        for spec, prompt in zip(SPECS, PROMPTS, strict=True)
    )
    with pytest.raises(ValueError, match="no prompt of world 3 reads"):
        spec_of(WORLD, "what is this?")


def test_equal_seeds_give_equal_prompts():
    assert raw_prompts(World(3)) == PROMPTS
    assert raw_prompts(world_of(4)) != PROMPTS


def test_prompts_are_short():
    assert max(len(prompt.text.split()) for prompt in PROMPTS) < 60
