"""The world: the same seed, the same truth; myths are errors; the toy language can be read back."""

from collections import Counter

import pytest

from instructloop.microworld import lexicon
from instructloop.microworld.world import RELATION, World, split_toy

WORLD = World(5)


def test_equal_seeds_give_equal_worlds_and_others_differ():
    again, other = World(5), World(6)
    assert again.facts == WORLD.facts
    assert again.myths == WORLD.myths
    assert again.toy == WORLD.toy
    assert other.facts != WORLD.facts


def test_every_entity_has_one_value_for_each_of_its_relations():
    assert len(WORLD.truth) == len(WORLD.facts) > 400
    for subject in WORLD.kind_of:
        for relation in WORLD.relations_of(subject):
            value = WORLD.truth[subject, relation]
            assert value in RELATION[relation].values
            assert value != subject


def test_no_word_names_two_entities():
    names = [name for names in WORLD.entities.values() for name in names]
    assert max(Counter(names).values()) == 1
    assert not set(names) & set(lexicon.STRANGERS)


def test_myths_are_false_and_asked_either_by_prompts_or_by_benchmarks():
    for myth in WORLD.myths:
        assert WORLD.truth[myth.fact.key] == myth.fact.value != myth.error
        assert (myth.use == "benchmark") == (myth.fact.key in WORLD.reserved)
    assert Counter(myth.use for myth in WORLD.myths) == {"prompts": 40, "benchmark": 32}
    assert not any(WORLD.kind_of[myth.fact.subject] == "person" for myth in WORLD.myths)


def test_statements_and_questions_read_as_english():
    assert WORLD.statement("fox", "habitat", "forest") == "the fox lives in the forest"
    assert WORLD.statement("anna", "home", "lenton") == "anna lives in lenton"
    assert WORLD.question("anna", "home") == "where does anna live?"
    assert WORLD.question("lenton", "land") == "in which land is lenton?"


def test_the_toy_language_puts_adjectives_behind_and_the_verb_last():
    toy = WORLD.toy
    assert WORLD.translate("the red cat sees the dog") == f"lo {toy['cat']} {toy['red']} lo {toy['dog']} {toy['sees']}"
    assert len(set(toy.values())) == len(toy)
    with pytest.raises(ValueError, match="is not of the form"):
        split_toy("anna sees the dog")


def test_the_words_of_abuse_mean_nothing_else():
    meaningful = {word for words in WORLD.entities.values() for word in words} | set(lexicon.ADJECTIVES)
    assert not meaningful & lexicon.RUDE_WORDS
