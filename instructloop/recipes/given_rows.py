"""The rows of a user's file as freezing the store would give them, each with what tells its prompt apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Protocol, cast

from instructloop.core.records import Prompt, Split, content_id
from instructloop.formats.converting import Converted, convert
from instructloop.formats.given import Given, GivenDemonstration, GivenPrompt, GivenRanking, Kind
from instructloop.formats.lines import Row
from instructloop.formats.rows import read_rows
from instructloop.formats.shapes import recognise, renamed
from instructloop.recipes.label_rows import Labelled, label_key, ready, stored_prompt
from instructloop.recipes.outside import clean_prompt, cleaned
from instructloop.stages.reward_rows import is_frame
from instructloop.store.frozen_lines import demonstration_line, ranking_line
from instructloop.store.importing import completions_of
from instructloop.store.rows import DemonstrationRow, ImportedDemonstration, ImportedRanking, RankingRow

_WITH_PROMPTS: tuple[Kind, ...] = ("prompts", "demonstrations", "rankings")


class Reading(Protocol):
    """How a file is read; given_data's Config says it."""

    @property
    def kind(self) -> Kind: ...
    @property
    def shape(self) -> str | None: ...
    @property
    def fields(self) -> Mapping[str, str]: ...
    @property
    def prompt(self) -> str | None: ...
    @property
    def origin(self) -> str: ...


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt among rows of labels."""

    prompt: Prompt


@dataclass(slots=True)
class Kept:
    """One row that can be used: its number in the file, and the key that it shares with rows that tell of it."""

    number: int
    texts: tuple[str, tuple[str, ...]]  # prompt and completions
    row: DemonstrationRow | RankingRow | PromptRow
    key: str = ""

    def line(self) -> dict[str, Any]:
        """Return what a stage reads."""
        if isinstance(self.row, DemonstrationRow):
            return demonstration_line(self.row)
        if isinstance(self.row, RankingRow):
            return ranking_line(self.row)
        names = ("id", "text", "source", "user", "split", "kind", "category")
        return {name: getattr(self.row.prompt, name) for name in names}

    def put(self, split: Split) -> None:
        """Give the row its split."""
        self.row = replace(self.row, prompt=replace(self.row.prompt, split=split))


@dataclass(slots=True)
class File:
    """The rows of one file that can be used, and the others by number and reason."""

    shape: str
    kept: list[Kept] = field(default_factory=list[Kept])
    dropped: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])

    @property
    def facts(self) -> dict[str, Any]:
        """What was read, kept and dropped, for a manifest."""
        reasons = Counter(reason for _, reason in self.dropped).most_common()
        return {
            "shape": self.shape,
            "read": len(self.kept) + len(self.dropped),
            "kept": len(self.kept),
            "dropped": dict(reasons),
        }


def read_files(reading: Reading, sources: Mapping[Split, str]) -> dict[Split, File]:
    """Return the rows of each file, texts cleaned; a ValueError names file, row and rule where one cannot be read."""
    done: dict[Split, File] = {}
    for split, source in sources.items():
        found = _converted(reading, source)
        done[split] = (_prompts if reading.kind == "prompts" else _labels)(found, reading.origin)
    every = [one for file in done.values() for one in file.kept]
    for one, key in zip(every, group_keys([one.texts for one in every]), strict=True):
        one.key = key
    return done


def group_keys(rows: Sequence[tuple[str, Collection[str]]]) -> list[str]:
    """Return a key for each row (prompt, completions): equal ones where what is learned of one tells of the other.

    Rows of one prompt have one key. Of a prompt that is a frame for many questions (`reward_rows.is_frame`) only those
    that share a completion, by way of others perhaps.
    """
    completions: dict[str, set[str]] = defaultdict(set)
    for prompt, texts in rows:
        completions[prompt].update(texts)
    root: dict[tuple[str, str], tuple[str, str]] = {}

    def find(node: tuple[str, str]) -> tuple[str, str]:
        while root.setdefault(node, node) != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    for prompt, texts in rows:
        nodes = [(prompt, text) for text in texts] if is_frame(len(completions[prompt])) else [(prompt, "")]
        first, *others = sorted(map(find, nodes))
        for other in others:
            root[other] = first
    return [
        content_id("group", *find((prompt, min(texts, default="") if is_frame(len(completions[prompt])) else "")))
        for prompt, texts in rows
    ]


def _converted(reading: Reading, source: str) -> Converted:
    """Return a file's rows with their texts cleaned."""
    rows, kind = _kind(reading, read_rows(source))
    found = convert(rows, kind, source=source, shape=reading.shape, names=reading.fields, prompt=reading.prompt)
    return Converted(found.shape, [(number, _clean(one)) for number, one in found.kept], found.dropped)


def _clean(one: Given) -> Given:
    if isinstance(one, GivenPrompt):
        return replace(one, text=clean_prompt(one))
    return cleaned(one) if isinstance(one, GivenDemonstration | GivenRanking) else one


def _kind(reading: Reading, rows: Iterable[Row]) -> tuple[Iterable[Row], Kind]:
    """Return the rows and what to read them as: where prompts are wanted, those of labels will do."""
    if reading.kind != "prompts":
        return rows, reading.kind
    every, start = iter(rows), list[Row]()
    for row in every:
        start.append(row)
        if not row.problem:
            break
    fields = renamed(start[-1].fields, reading.fields) if start else {}
    for kind in _WITH_PROMPTS:
        if recognise(kind, fields):
            return chain(start, every), kind
    return chain(start, every), "prompts"


def _prompts(found: Converted, origin: str) -> File:
    """Return each prompt once."""
    file = File(found.shape, dropped=list(found.dropped))
    known = set[str]()
    for number, one in found.kept:
        given = one if isinstance(one, GivenPrompt) else cast(Labelled, one).prompt
        if given.text in known:
            file.dropped.append((number, "repeated"))
        else:
            known.add(given.text)
            prompt = stored_prompt(_by_text(given, origin), origin)
            file.kept.append(Kept(number, (prompt.text, ()), PromptRow(prompt)))
    return file


def _labels(found: Converted, origin: str) -> File:
    """Return the labels as they would be frozen, what cannot be stored dropped as an import does."""
    own: list[tuple[int, Given]] = [
        (number, replace(one, prompt=_by_text(one.prompt, origin)))
        for number, one in cast(list[tuple[int, Labelled]], found.kept)
    ]
    labels = ready(Converted(found.shape, own, found.dropped), origin, None)
    file = File(found.shape, dropped=labels.dropped)
    for row in labels.rows:
        texts = [row.text] if isinstance(row, ImportedDemonstration) else row.completions
        policies = [""] if isinstance(row, ImportedDemonstration) else row.policies or ()
        written = list(zip(policies, texts, strict=True))
        number, _ = labels.given[label_key(row.prompt.id, row.labeler or origin, written)]
        file.kept.append(Kept(number, (row.prompt.text, tuple(texts)), _frozen(row, origin)))
    return file


def _by_text(prompt: GivenPrompt, origin: str) -> GivenPrompt:
    """Return the prompt with a user: where the file names none, a text is one prompt, whatever ids its rows have."""
    return prompt if prompt.user else replace(prompt, user=f"{origin}/{prompt.text}")


def _frozen(row: ImportedDemonstration | ImportedRanking, origin: str) -> DemonstrationRow | RankingRow:
    labeler = row.labeler or origin
    if isinstance(row, ImportedDemonstration):
        identity = content_id("submission", row.prompt.id, labeler, row.text)
        return DemonstrationRow(identity, row.prompt, row.text, labeler, "train", origin, origin)
    completions = completions_of(row, origin)
    ids = [one.id for one in completions]
    return RankingRow(
        id=content_id("submission", row.prompt.id, labeler, *ids),
        prompt=row.prompt,
        labeler=labeler,
        cohort="train",
        origin=origin,
        task_set=origin,
        completions=tuple(sorted(completions, key=lambda one: one.id)),  # the given order may be best first
        shown=(),
        tiers=tuple(tuple(ids[place] for place in tier) for tier in row.tiers),
        ratings=dict(zip(ids, row.ratings or [None] * len(ids), strict=True)),
        flags={},
        notes={},
    )
