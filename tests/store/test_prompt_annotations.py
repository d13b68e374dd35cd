"""Annotations of prompts (Table 7): sparse, append-only, the newest of each labeler counts."""

import pytest
from sqlalchemy import text


def num_rows(desk):
    with desk.store._database.read.connect() as connection:
        return connection.execute(text("SELECT count(*) FROM annotation")).scalar()


def test_the_newest_word_of_each_labeler_counts_and_the_older_ones_stay(desk):
    [prompt] = desk.prompts(1)
    annotate = desk.store.desk.annotate
    annotate(prompt.id, "train-bob", "chat", {"ambiguous": True, "closed_domain": None}, desk.later(0))
    annotate(prompt.id, "train-ann", None, {}, desk.later(1))
    annotate(prompt.id, "train-bob", "rewrite", {"ambiguous": False}, desk.later(2))
    annotate(prompt.id, "train-bob", "chat", {"ambiguous": True, "closed_domain": None}, desk.later(3))
    ann, bob = desk.store.desk.annotations(prompt.id)
    assert (ann.labeler_id, ann.category, ann.fields) == ("train-ann", None, {})
    assert (bob.category, bob.fields) == ("chat", {"ambiguous": True, "closed_domain": None})
    assert (bob.annotated_at, bob.schema_version) == (desk.later(3), 1)
    assert num_rows(desk) == 4


def test_the_same_word_again_adds_nothing(desk):
    [prompt] = desk.prompts(1)
    first = desk.store.desk.annotate(prompt.id, "train-ann", "chat", {"ambiguous": True}, desk.now)
    assert desk.store.desk.annotate(prompt.id, "train-ann", "chat", {"ambiguous": True}, desk.later(9)) == first
    assert num_rows(desk) == 1


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("category", "fields", "said"),
    [
        ("poetry", {}, "category 'poetry'"),
        ("chat", {"funny": True}, "field 'funny'"),
        ("chat", {"ambiguous": 1}, "ambiguous is 1"),
    ],
)
def test_unknown_questions_and_answers_are_refused(desk, category, fields, said):
    [prompt] = desk.prompts(1)
    with pytest.raises(ValueError, match=said):
        desk.store.desk.annotate(prompt.id, "train-ann", category, fields, desk.now)
    with pytest.raises(ValueError, match="prompt prompt-0 is not in the store"):
        desk.store.desk.annotate("prompt-0", "train-ann", None, {}, desk.now)
    with pytest.raises(ValueError, match="labeler 'nobody'"):
        desk.store.desk.annotate(prompt.id, "nobody", None, {}, desk.now)
    assert num_rows(desk) == 0
