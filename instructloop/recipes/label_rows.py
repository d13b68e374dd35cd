"""From labels as a file gives them to what the store takes: prompts with an origin, a judgement once, who said what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from instructloop.core.records import Category, Prompt, content_id
from instructloop.formats.converting import Converted
from instructloop.formats.given import GivenCompletion, GivenDemonstration, GivenPrompt, GivenRanking
from instructloop.store.rows import ImportedDemonstration, ImportedRanking

Labelled = GivenDemonstration | GivenRanking
UNKNOWN = "unknown"
"""The policy of a completion of which nobody says who wrote it."""


@dataclass(slots=True)
class Labels:
    """The labels of a file that can be stored, and the rows that cannot, by number and reason."""

    rows: list[ImportedDemonstration | ImportedRanking] = field(default_factory=list[Any])
    given: dict[str, tuple[int, Labelled]] = field(default_factory=dict[str, tuple[int, Labelled]])
    dropped: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])


def imported(one: Labelled, origin: str, *, labeler: str | None = None) -> ImportedDemonstration | ImportedRanking:
    """Return a label as the store takes it; `labeler` is who made it where the row names nobody."""
    prompt = stored_prompt(one.prompt, origin)
    if isinstance(one, GivenDemonstration):
        return ImportedDemonstration(prompt, one.completion, one.labeler or labeler)
    completions = one.completions
    place = {id(each): number for number, each in enumerate(completions)}
    return ImportedRanking(
        prompt,
        [each.text for each in completions],
        [[place[id(each)] for each in tier] for tier in one.tiers],
        policies=[each.policy or UNKNOWN for each in completions],
        ratings=[each.rating for each in completions],
        labeler=one.labeler or labeler,
    )


def stored_prompt(given: GivenPrompt, origin: str) -> Prompt:
    """Return a prompt with its origin; where the file names no user, each prompt (each id) is a user of its own."""
    user = given.user or f"{origin}/{given.beside.get('id') or given.text}"
    return Prompt.make(given.text, source=origin, user=user, category=given.category)


def label_key(prompt_id: str, labeler: str, written: Iterable[tuple[str, str]]) -> str:
    """Return what tells a label apart: who said something of which (policy, text)s under which prompt."""
    return content_id("label", prompt_id, labeler, *(part for pair in sorted(written) for part in pair))


def ready(converted: Converted, origin: str, labeler: str | None) -> Labels:
    """Return the labels made ready for the store, the same one once.

    A second judgement of one labeler on one question is dropped. Where nobody is named it may be somebody else's, so
    it counts as that of "import:NAME#2".
    """
    found = Labels(dropped=list(converted.dropped))
    said: dict[str, list[Labelled]] = {}
    categories: dict[str, Category | None] = {}
    for number, one in cast(list[tuple[int, Labelled]], converted.kept):
        texts = _texts(one)
        if len(set(texts)) < len(texts):
            found.dropped.append((number, "two equal completions"))
            continue
        prompt_id = stored_prompt(one.prompt, origin).id
        named = one.labeler or labeler
        question = () if isinstance(one, GivenDemonstration) else _written(one)
        before = said.setdefault(label_key(prompt_id, named or "", question), [])
        if any(_judgement(one) == _judgement(other) for other in before):
            found.dropped.append((number, "repeated"))
            continue
        if before and named:
            found.dropped.append((number, "another answer of the same labeler"))
            continue
        before.append(one)
        who = named or (origin if len(before) == 1 else f"{origin}#{len(before)}")
        category = categories.setdefault(prompt_id, one.prompt.category)
        same = replace(one, prompt=replace(one.prompt, category=category))
        found.rows.append(imported(same, origin, labeler=who))
        found.given[label_key(prompt_id, who, _written(one))] = (number, one)
    return found


def _texts(one: Labelled) -> list[str]:
    return [one.completion] if isinstance(one, GivenDemonstration) else [each.text for each in one.completions]


def _written(one: Labelled) -> list[tuple[str, str]]:
    """Return (policy, text) of what a label is about, as the frozen row has them."""
    if isinstance(one, GivenDemonstration):
        return [("", one.completion)]
    return [(each.policy or UNKNOWN, each.text) for each in one.completions]


def _judgement(one: Labelled) -> Any:
    """Return what a label says, without what stands beside it."""
    if isinstance(one, GivenDemonstration):
        return one.completion
    return [[(each.text, each.policy, each.rating) for each in tier] for tier in one.tiers]


def beside_rows(
    frozen: Sequence[Mapping[str, Any]], given: Mapping[str, tuple[int, Labelled]]
) -> Iterator[dict[str, Any]]:
    """Yield, in the order of the frozen rows, where each came from in the file and what else its row said."""
    for row in frozen:
        written = [(one["policy"], one["text"]) for one in row.get("completions", [])] or [("", row["completion"])]
        number, one = given[label_key(row["prompt_id"], row["labeler"], written)]
        completions = {} if isinstance(one, GivenDemonstration) else _of_completions(one.completions, row)
        fields = dict(one.prompt.beside)
        if one.prompt.category != row["category"]:
            fields["category"] = one.prompt.category
        yield {"id": row["id"], "row": number, "fields": fields, "completions": completions}


def _of_completions(completions: Sequence[GivenCompletion], row: Mapping[str, Any]) -> dict[str, Any]:
    ids = {each["text"]: each["id"] for each in row["completions"]}
    return {ids[each.text]: dict(each.beside) for each in completions if each.beside}
