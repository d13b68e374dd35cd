"""All rows of a source as what people gave, with the count of what was read, kept and dropped, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from instructloop.formats.given import Given, Kind, Unfit, beside_of
from instructloop.formats.lines import Row
from instructloop.formats.reading import given
from instructloop.formats.shapes import SHAPES, check_labels, check_shape, recognise, refusal, renamed


@dataclass(frozen=True, slots=True)
class Converted:
    """What a source held: rows by number, the numbers of dropped rows with the reason; together they are all."""

    shape: str
    kept: list[tuple[int, Given]] = field(default_factory=list[tuple[int, Given]])
    dropped: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])

    @property
    def num_read(self) -> int:
        return len(self.kept) + len(self.dropped)

    @property
    def reasons(self) -> dict[str, int]:
        """Reason -> number of rows dropped for it, the most frequent first."""
        return dict(Counter(reason for _, reason in self.dropped).most_common())

    @property
    def fields_beside(self) -> dict[str, int]:
        """Field that has no place of its own -> number of kept rows that have it."""
        return dict(sorted(Counter(name for _, one in self.kept for name in beside_of(one)).items()))


def convert(
    rows: Iterable[Row],
    kind: Kind,
    *,
    source: str,
    shape: str | None = None,
    names: Mapping[str, str] | None = None,
    prompt: str | None = None,
) -> Converted:
    """Return the rows of a source as one kind of labels; ValueError, naming the row, when it holds something else.

    Without `shape` the first readable row says it, and a row of another shape is an error: two files in one. With it,
    what does not fit is dropped and counted. `names` says which field is which, ours first; `prompt` fills blank ones.
    """
    if shape is not None:
        check_shape(kind, shape)
    found = Converted(shape or "")
    for row in rows:
        if row.problem:
            found.dropped.append((row.number, row.problem))
            continue
        fields = renamed(row.fields, names or {})
        own = recognise(kind, fields)
        if not found.shape:
            check_labels(kind, fields)
            if own is None:
                raise ValueError(f"{source}:{row.number}: {refusal(kind, fields)}")
            found = Converted(own, found.kept, found.dropped)
        if shape is None and own is not None and not set(SHAPES[kind][own]) <= set(SHAPES[kind][found.shape]):
            raise ValueError(
                f"{source}:{row.number}: a row of shape {own} among rows of shape {found.shape}: split the file, "
                f"or name the shape to drop the others (--shape {found.shape})"
            )
        _take(found, kind, row.number, fields, prompt)
    if not found.kept:
        reasons = "".join(f", {number} {reason}" for reason, number in found.reasons.items())
        where = f"{source}:{found.dropped[0][0]}" if found.dropped else source
        raise ValueError(f"{where}: none of {found.num_read} rows can be used{reasons or ': it is empty'}")
    return found


def _take(found: Converted, kind: Kind, number: int, fields: Mapping[str, Any], prompt: str | None) -> None:
    try:
        found.kept.append((number, given(kind, found.shape, fields, prompt=prompt)))
    except Unfit as error:
        found.dropped.append((number, str(error)))
