"""Prompts that labelers write: plain, few-shot, user-based (paper 3.2, A.1)."""

import pytest

PAIRS = [("2 + 2", "4"), ("3 + 5", "8"), ("7 + 1", "8")]


def write(desk, kind="plain", instruction="Name a river.", pairs=(), use_case="", labeler="train-ann", after=0.0):
    return desk.store.desk.write_prompt(labeler, kind, instruction, pairs, use_case, desk.later(after))


def test_a_plain_prompt_is_the_labelers_own(desk):
    prompt = write(desk, instruction="  Name a river.\r\n")
    assert (prompt.text, prompt.source, prompt.user, prompt.kind) == ("Name a river.", "labeler", "train-ann", "plain")
    assert prompt.split is None
    assert desk.store.prompts(source="labeler") == [prompt]


def test_a_few_shot_prompt_shows_all_pairs_but_the_last_and_asks_for_that(desk):
    prompt = write(desk, "few_shot", "Add the numbers.", PAIRS)
    assert prompt.text == "Add the numbers.\n\n2 + 2\n4\n\n3 + 5\n8\n\n7 + 1"
    [made] = desk.store.desk.written("train-ann")
    assert (made.prompt, made.instruction, made.pairs) == (prompt, "Add the numbers.", tuple(PAIRS))


def test_a_user_based_prompt_keeps_its_use_case_out_of_the_text(desk):
    prompt = write(desk, "user_based", "Draft a reply to this review: …", use_case="help shops answer reviews")
    assert prompt.text == "Draft a reply to this review: …"
    assert [made.use_case for made in desk.store.desk.written("train-ann")] == ["help shops answer reviews"]


def test_own_prompts_are_listed_newest_first_and_only_ones_own(desk):
    first, second = write(desk), write(desk, instruction="Name a lake.", after=1)
    write(desk, labeler="train-bob")  # the same words by another are another prompt
    assert [made.prompt for made in desk.store.desk.written("train-ann")] == [second, first]
    assert [made.prompt for made in desk.store.desk.written("train-ann", limit=1)] == [second]
    assert len(desk.store.prompts(source="labeler")) == 3


def test_the_same_prompt_sent_again_is_one(desk):
    first = write(desk, "few_shot", "Add the numbers.", PAIRS)
    assert write(desk, "few_shot", "Add the numbers.", PAIRS, after=5) == first
    with pytest.raises(ValueError, match="from other parts"):
        write(desk, "few_shot", "Add the numbers.", [*PAIRS[:2], ("7 + 1", "eight")], after=6)
    [made] = desk.store.desk.written("train-ann")
    assert (made.pairs, made.written_at) == (tuple(PAIRS), desk.now)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"instruction": " \n"}, "instruction is blank"),
        ({"kind": "long"}, "kind 'long'"),
        ({"kind": "few_shot", "pairs": PAIRS[:1]}, "at least 2, not 1"),
        ({"kind": "few_shot", "pairs": [*PAIRS, ("9 + 9", " ")]}, "completion 4 is blank"),
        ({"pairs": PAIRS}, "a plain prompt has none"),
        ({"kind": "user_based"}, "use_case is blank"),
        ({"use_case": "shops"}, "a plain prompt has none"),
        ({"labeler": "nobody"}, "labeler 'nobody'"),
        ({"instruction": "a\x00b"}, "NUL"),
    ],
)
def test_incomplete_and_idle_parts_are_refused(desk, parts, said):
    with pytest.raises(ValueError, match=said):
        write(desk, **parts)
    assert desk.store.prompts(source="labeler") == []


def test_what_was_said_first_of_a_prompts_language_stays_and_goes_with_the_prompt(desk):
    prompt = write(desk)
    assert desk.store.say_languages({prompt.id: "pt-BR"}) == 1
    assert desk.store.say_languages({prompt.id: "en"}) == 0
    with desk.store._database.read.connect() as connection:
        assert connection.exec_driver_sql("SELECT language FROM prompt_language").scalars().all() == ["pt-BR"]
    for unfit in ("", "English!", "a" * 36, "<b>"):
        with pytest.raises(ValueError, match="must be a tag like en or pt-BR"):
            desk.store.say_languages({prompt.id: unfit})
