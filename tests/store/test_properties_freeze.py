"""Frozen rankings follow from the judgements that belong in them and from nothing else: no order, no day, no other."""

import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from instructloop.core.records import FLAGS
from instructloop.store import ComparisonForm, Frozen, Store, TaskItem, freeze_rankings
from tests.store.conftest import NOON, Desk

LABELERS = ("train-ann", "train-bob", "heldout-ann")
SPLITS = ("train", "test")
JUDGEMENTS = [(labeler, split) for labeler in LABELERS for split in SPLITS]
"""Who judges what: each labeler a prompt of the training split and one of the test split."""

Judgement = tuple[tuple[tuple[int, ...], ...], tuple[int | None, ...], bool | None]
"""Tiers of three completions by number, their ratings, and whether the first is flagged."""


def tiers_of(levels: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return completions of equal level as one tier, the lowest level first."""
    return tuple(tuple(i for i in range(3) if levels[i] == level) for level in sorted(set(levels)))


JUDGEMENT = st.tuples(
    st.tuples(*[st.integers(0, 2)] * 3).map(tiers_of),
    st.tuples(*[st.none() | st.integers(1, 7)] * 3),
    st.none() | st.booleans(),
)
ALL = st.lists(JUDGEMENT, min_size=len(JUDGEMENTS), max_size=len(JUDGEMENTS))
ORDER = st.permutations(range(len(JUDGEMENTS)))
FEW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def frozen_of(
    empty_store: Path, folder: Path, given_judgements: Sequence[Judgement], order: Sequence[int], start: datetime = NOON
) -> Frozen:
    """Give all judgements to a fresh store in some order, from some moment on, and freeze them for training."""
    for old in folder.glob("work.db*"):
        old.unlink()
    with Store.open(shutil.copy(empty_store, folder / "work.db")) as store:
        desk = Desk(store, start)
        for index in order:
            labeler, split = JUDGEMENTS[index]
            judge(desk, labeler, split, given_judgements[index])
            desk.now += timedelta(hours=1)
        path = folder / "frozen.jsonl"
        return freeze_rankings(store, SPLITS, cohorts=frozenset({"train"}), purpose="train", path=path)


def judge(desk: Desk, labeler: str, split: str, judgement: Judgement) -> None:
    """Open the task where it is not open yet, claim it and submit the form."""
    (prompt,) = desk.prompts(1, split=split)
    shown = [completion.id for completion in desk.completions(prompt, 3)]
    cohort, item = labeler.split("-")[0], TaskItem(prompt.id, tuple(shown))
    desk.store.open_tasks(split, "compare", [item], overlap=2, cohort=cohort, now=desk.now)  # type: ignore[arg-type]
    tiers, ratings, flag = judgement
    form = ComparisonForm(
        ratings=dict(zip(shown, ratings, strict=True)),
        flags={key: {FLAGS[0]: flag if key == shown[0] else None} for key in shown},
        tiers=[[shown[i] for i in tier] for tier in tiers],
    )
    desk.store.submit_comparison(desk.claim(split, labeler).id, form, now=desk.later(60), idempotency_key="k")


@FEW
@given(judgements=ALL, order=ORDER, days=st.integers(0, 400))
def test_the_same_judgements_give_the_same_bytes_in_any_order_on_any_day(
    empty_store, tmp_path, judgements, order, days: int
):
    first = frozen_of(empty_store, tmp_path, judgements, range(len(JUDGEMENTS)))
    content = first.path.read_bytes()
    second = frozen_of(empty_store, tmp_path, judgements, order, NOON + timedelta(days=days))
    assert second == first
    assert second.path.read_bytes() == content
    assert (first.num_rows, sum(first.dropped.values())) == (2, 4)  # held-out judgements and test prompts stay out


@FEW
@given(judgements=ALL, place=st.sampled_from(range(len(JUDGEMENTS))), other=JUDGEMENT)
def test_the_hash_changes_with_any_label_of_a_training_labeler_on_a_training_prompt_and_with_no_other(
    empty_store, tmp_path, judgements, place: int, other: Judgement
):
    assume(other != judgements[place])
    changed = [*judgements[:place], other, *judgements[place + 1 :]]
    lines, hashes = [], set()
    for given_judgements in (judgements, changed):
        frozen = frozen_of(empty_store, tmp_path, given_judgements, range(len(JUDGEMENTS)))
        hashes.add(frozen.sha256)
        lines.append(set(frozen.path.read_bytes().splitlines()))
    belongs = JUDGEMENTS[place] in [("train-ann", "train"), ("train-bob", "train")]
    assert len(hashes) == (2 if belongs else 1)
    assert len(lines[0] - lines[1]) == len(lines[1] - lines[0]) == (1 if belongs else 0)
