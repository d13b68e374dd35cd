"""The shapes in which the ecosystem writes labels: their names, and which one a row's fields are of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from instructloop.formats.given import Kind

SHAPES: dict[Kind, dict[str, tuple[str, ...]]] = {
    "text": {"text": ("text",)},
    "prompts": {"prompt": ("prompt",)},
    "demonstrations": {"prompt_completion": ("prompt", "completion"), "messages": ("messages",)},
    "rankings": {
        "judgements": ("prompt", "completions", "tiers"),
        "kwise": ("prompt", "completions"),
        "ranked": ("prompt", "ranked"),
        "pairs": ("prompt", "chosen", "rejected"),
        "hh": ("chosen", "rejected"),
        "votes": ("prompt", "a", "b", "votes_a", "votes_b"),
    },
}
"""Kind -> shape -> the fields a row must have; the first shape whose fields are all there is the row's.

`prompt`, `completion`, `chosen` and `rejected` may be texts or lists of messages. `kwise`: completions with ranks, 1
the best; `ranked`: texts, best first, or with `votes`; `hh`: the prompt stands inside both; `judgements`: our own.
"""
OTHER_NAMES = {"context": "prompt", "conversations": "messages"}
"""Field -> what it is called here, where the second is not there too: Open-Assistant's and ShareGPT's words."""
BLANK_PROMPT = "prompt is blank: --prompt TEXT gives such rows one"


def check_shape(kind: Kind, shape: str) -> None:
    """Refuse a shape that is none of the kind's."""
    if shape not in SHAPES[kind]:
        raise ValueError(f"shape {shape!r} of {kind} is unknown; there are {', '.join(SHAPES[kind])}")


def renamed(fields: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a row's fields under our names; `names` says which field of the file is which, ours first."""
    ours = {theirs: our for our, theirs in names.items()}
    found = {ours.get(name, name): value for name, value in fields.items() if name in ours or name not in names}
    for other, name in OTHER_NAMES.items():
        if name not in found and other in found:
            found[name] = found.pop(other)
    return found


def recognise(kind: Kind, fields: Collection[str]) -> str | None:
    """Return the shape that a row of these fields has; None when it has none of this kind's."""
    for shape, needed in SHAPES[kind].items():
        if set(needed) <= set(fields):
            return shape
    return None


def refusal(kind: Kind, fields: Mapping[str, Any]) -> str:
    """Return why rows of these fields are not of this kind, and what would help."""
    there = f"the fields are {', '.join(sorted(fields)) or 'none'}"
    for other in ("rankings", "demonstrations", "text"):
        if other != kind and (shape := recognise(other, fields)):
            return f"{there}: rows of shape {shape} are {other}: --as {other}"
    needed = "; ".join(f"{shape}: {', '.join(names)}" for shape, names in SHAPES[kind].items())
    return f"{there}, and {kind} need those of one shape ({needed}); --field prompt=THEIRS says which field is which"


def check_labels(kind: Kind, fields: Mapping[str, Any]) -> None:
    """Refuse unpaired preferences as demonstrations: `label` false marks completions that nobody should imitate."""
    if kind == "demonstrations" and isinstance(fields.get("label"), bool):
        raise ValueError(
            "field label is true or false: these are unpaired preferences, not demonstrations; "
            "keep the rows whose label is true and leave the field out"
        )
