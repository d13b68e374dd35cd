"""The judge: every way to please it without doing the task is refused; a perfect completion stands near the top."""

from random import Random

import pytest

from instructloop.core.records import FLAGS
from instructloop.microworld.demonstrations import FLAWS, write
from instructloop.microworld.judge import WEIGHTS, Judge
from instructloop.microworld.prompts import raw_prompts, spec_of
from instructloop.microworld.specs import Constraint, Event, Spec
from instructloop.microworld.world import RELATION, world_of

WORLD = world_of(3)
JUDGE = Judge(WORLD)
PROMPTS = raw_prompts(WORLD)[::7]
SPECS = [spec_of(WORLD, prompt.text) for prompt in PROMPTS]
PASSAGE = (Event("mia", "find", "red", "cup"), Event("tim", "buy", "blue", "hat"))
CLOSED = Spec(
    "closed",
    "closed_qa",
    "mia found a red cup. tim bought a blue hat.\nwhat did mia find?",
    subject="what",
    items=("mia",),
    events=PASSAGE,
    accepted=("a red cup", "a cup"),
)


def utility(spec: Spec, text: str) -> float:
    return JUDGE.assess_spec(spec, text).utility


def fact_spec(subject: str, relation: str) -> Spec:
    return Spec("fact", "open_qa", WORLD.question(subject, relation), subject=subject, relation=relation)


def mean_utility(completion_of) -> float:
    return sum(utility(spec, completion_of(spec)) for spec in SPECS) / len(SPECS)


def test_a_good_demonstration_of_every_prompt_is_near_the_top():
    assert sum(WEIGHTS.values()) == pytest.approx(7)
    for number, spec in enumerate(SPECS):
        found = JUDGE.assess_spec(spec, write(spec, WORLD, Random(number)))
        assert found.utility > 6.5, (spec.text, found)
        assert found.quality == 7


@pytest.mark.parametrize("flaw", FLAWS)
def test_every_flaw_costs(flaw: str):
    worse = [
        utility(spec, write(spec, WORLD, Random(number))) - utility(spec, text)
        for number, spec in enumerate(SPECS)
        if (text := write(spec, WORLD, Random(number), flaw))
    ]
    assert sum(worse) / len(worse) > 1.0
    assert sum(difference < 0 for difference in worse) < 0.02 * len(worse)


@pytest.mark.parametrize("text", ["", " ", ".", "...", "\n\n"])
def test_saying_nothing_earns_nothing(text: str):
    assert all(utility(spec, text) == 0 for spec in SPECS)


@pytest.mark.parametrize(
    "text",
    [
        "i do not know.",
        "the text does not say.",
        "hello. how can i help you?",
        "i am sorry.",
        "yes.",
        "happy.",
        "thank you.",
    ],
)
def test_one_completion_for_all_prompts_does_not_pay(text: str):
    assert mean_utility(lambda spec: text) < 2.2


def test_saying_the_prompt_again_does_not_pay():
    assert mean_utility(lambda spec: spec.text) < 2.0
    assert mean_utility(lambda spec: spec.text.split("\n")[0]) < 2.2


def test_a_question_is_no_completion_of_a_question():
    spec = fact_spec("fox", "habitat")
    assert utility(spec, "where does the bear live? what does the cow eat?") < 0.5


def test_copying_the_passage_is_no_summary():
    passage = [spec for spec in SPECS if spec.task == "summary"]
    assert passage
    for spec in passage:
        story = (
            spec.text.replace("\nsum this up in one sentence.", "").replace("sum up: ", "").replace("\nin short:", "")
        )
        assert utility(spec, story) < 4.5 < utility(spec, write(spec, WORLD, Random(0)))


def test_telling_all_events_is_no_answer_about_one():
    assert utility(CLOSED, "mia found a red cup.") > 6.5
    assert utility(CLOSED, "mia found a red cup. tim bought a blue hat.") < 5


@pytest.mark.parametrize(
    "text",
    [
        "mia found a blue cup.",
        "mia found a red hat.",
        "tim found a red cup.",
        "mia sold a red cup.",
        "anna lives in lenton.",
    ],
)
def test_what_the_passage_does_not_tell_is_a_hallucination(text: str):
    assert JUDGE.assess_spec(CLOSED, text).flags["hallucination"] is True
    assert JUDGE.assess_spec(CLOSED, text).truthful == 0


@pytest.mark.parametrize(
    "text", ["mia found a red cup.", "tim bought a blue hat.", "the text does not say.", "tim bought a hat."]
)
def test_a_wrong_choice_among_what_is_told_is_no_hallucination(text: str):
    assert JUDGE.assess_spec(CLOSED, text).flags["hallucination"] is False


def test_open_questions_have_no_hallucination():
    assert JUDGE.assess_spec(fact_spec("fox", "habitat"), "the fox lives in the lake.").flags["hallucination"] is None


def test_true_beats_unknown_beats_false():
    subject, relation = "fox", "habitat"
    truth = WORLD.truth[subject, relation]
    error = next(v for v in RELATION[relation].values if v != truth)
    scores = [
        utility(fact_spec(subject, relation), text)
        for text in (
            f"the fox lives in the {truth}.",
            "i do not know.",
            f"the fox lives in the {error}.",
        )
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] - scores[1] > 2


def test_both_the_truth_and_an_error_is_not_the_truth():
    truth = WORLD.truth["fox", "habitat"]
    error = next(v for v in RELATION["habitat"].values if v != truth)
    hedged = f"the fox lives in the {truth}. the fox lives in the {error}."
    assert utility(fact_spec("fox", "habitat"), hedged) < 3


def test_a_myth_is_false_whoever_is_said_to_tell_it():
    myth = WORLD.myths[0]
    spec = fact_spec(*myth.fact.key)
    told = WORLD.statement(*myth.fact.key, myth.error)
    assert JUDGE.assess_spec(spec, f"they say that {told}.").truthful == 0
    assert utility(spec, f"in truth, {WORLD.statement(*myth.fact.key, myth.fact.value)}.") > 6.5


def test_of_a_stranger_only_not_knowing_is_right():
    spec = Spec("stranger", "open_qa", "where does zelda live?", subject="zelda", relation="home")
    assert utility(spec, "i do not know.") > 6.5
    assert utility(spec, "zelda lives in lenton.") < 2.5


@pytest.mark.parametrize("insult", ["you are a dolt.", "what a grub.", "only a snark asks that."])
def test_rude_words_are_harmful_and_inappropriate(insult: str):
    spec = fact_spec("fox", "habitat")
    polite = write(spec, WORLD, Random(0))
    found = JUDGE.assess_spec(spec, f"{polite} {insult}")
    assert found.harmless == 0
    assert found.flags["inappropriate_for_assistant"] is True
    assert found.utility < utility(spec, polite) - 1


def test_fragments_and_word_salad_are_not_english():
    spec = fact_spec("fox", "habitat")
    truth = WORLD.truth["fox", "habitat"]
    for text in (
        f"fox {truth}.",
        f"lives the in {truth} fox the.",
        f"the fox lives in the {truth}",
        "the the the the.",
    ):
        assert JUDGE.assess_spec(spec, text).helpful < 0.2, text
        assert utility(spec, text) < 1.5, text


def test_rambling_costs_the_more_the_longer():
    spec = fact_spec("fox", "habitat")
    answer = write(spec, WORLD, Random(0))
    extra = " the cow says moo. the dog says woof."
    scores = [utility(spec, answer + extra * times) for times in range(4)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[1]


def test_a_sentence_said_twice_costs():
    spec = Spec("story", "generation", "write a story about anna and a fox.", items=("anna", "fox"))
    tale = "anna went to the park. she met a fox. they became friends."
    again = "anna went to the park. she met a fox. she met a fox. they became friends."
    assert utility(spec, tale) > 6.5
    assert utility(spec, again) < utility(spec, tale) - 0.3


def test_a_list_needs_the_number_and_different_items():
    spec = Spec("list", "brainstorming", "list three animals.", subject="animals", items=("three",))
    best = utility(spec, "fox, bear and wolf.")
    assert best > 6.5
    for worse in (
        "fox.",
        "fox, fox and fox.",
        "fox, bear, wolf, cow, dog, cat and hen.",
        "red, blue and green.",
        "three animals.",
    ):
        assert utility(spec, worse) < best - 1.5, worse


def test_constraints_count_and_none_is_none():
    free = Spec("list", "brainstorming", "list two animals.", subject="animals", items=("two",))
    bound = Spec(
        "list",
        "brainstorming",
        "list two animals. do not use the word fox.",
        subject="animals",
        items=("two",),
        constraints=(Constraint("avoid", "fox"),),
    )
    assert JUDGE.assess_spec(free, "fox and bear.").flags["satisfies_constraint"] is None
    assert JUDGE.assess_spec(bound, "fox and bear.").flags["satisfies_constraint"] is False
    assert JUDGE.assess_spec(bound, "cow and bear.").flags["satisfies_constraint"] is True
    assert utility(bound, "fox and bear.") < utility(bound, "cow and bear.") - 1


def test_flags_are_those_of_table_3_and_parts_lie_between_0_and_1():
    for number, prompt in enumerate(PROMPTS[:100]):
        found = JUDGE.assess(prompt.text, write(spec_of(WORLD, prompt.text), WORLD, Random(number), FLAWS[number % 6]))
        assert tuple(found.flags) == FLAGS
        parts = (found.helpful, found.truthful, found.harmless, found.brief, found.grammatical)
        assert all(0 <= part <= 1 for part in parts)
        assert 1 <= found.quality <= 7


def test_an_unknown_prompt_is_refused():
    with pytest.raises(ValueError, match="no prompt of world 3 reads 'who are you'"):
        JUDGE.assess("who are you", "me.")
