"""What a labelling page sends, checked field by field, and turned into the store's forms; no HTTP and no SQL."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from instructloop.core.questions import PROMPT_FIELDS
from instructloop.core.records import FLAGS, Category
from instructloop.store import ComparisonForm
from instructloop.store.rows import TaskKind

Rating = Annotated[int, Field(strict=True, ge=1, le=7)]
Tick = Annotated[bool, Field(strict=True)]
Seconds = Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]
MAX_CHARACTERS = 100_000
Text = Annotated[str, Field(max_length=MAX_CHARACTERS)]


class Message(BaseModel):
    """What a page sends: no field more than it may have."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AnnotationAnswer(Message):
    """What a labeler says of the prompt (Table 7); a field that is absent or None was not answered."""

    category: Category | None = None
    fields: dict[str, Tick | None] = {}


class DemonstrationAnswer(Message):
    """A demonstration."""

    text: Text
    annotation: AnnotationAnswer | None = None


class ComparisonAnswer(Message):
    """A comparison. Every completion has its key in ratings and flags; None says "not applicable" in so many words."""

    ratings: dict[str, Rating | None]
    flags: dict[str, dict[str, Tick | None]]
    ranks: dict[str, Annotated[int, Field(strict=True, ge=1)]]
    notes: dict[str, Text] = {}
    annotation: AnnotationAnswer | None = None


class DraftBody(Message):
    """One autosave; `body` is the page's own business."""

    rev: Annotated[int, Field(ge=1, le=2**31 - 1)]
    body: dict[str, Any]


class SubmitBody(Message):
    """One submission or correction; the same idempotency key again is the same submission."""

    idempotency_key: Annotated[str, Field(min_length=8, max_length=200)]
    answer: dict[str, Any]
    active_seconds: Seconds
    wall_seconds: Seconds
    instruction_version: int | None = None


class SkipBody(Message):
    """Why a task is given back."""

    reason: Annotated[str, Field(max_length=500)]


class NextBody(Message):
    """Which kind of task is wanted."""

    kind: TaskKind | None = None


class WrongAnswer(ValueError):
    """An answer that cannot be stored: what is wrong, and in which field."""

    def __init__(self, sentence: str, field: str) -> None:
        super().__init__(sentence)
        self.field = field


M = TypeVar("M", bound=Message)


def read(model: type[M], values: object) -> M:
    """Return the message in these values; WrongAnswer names the first field that is not right."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise WrongAnswer(f"{field or 'body'}: {first['msg']}", field) from error


def comparison_form(answer: ComparisonAnswer, shown: Sequence[str]) -> ComparisonForm:
    """Return the store's form of a whole comparison of the completions shown, ranks made into tiers.

    Nothing is filled in: a completion without a rank, rating or flag is a WrongAnswer that names it.
    """
    for field in ("ranks", "ratings", "flags"):
        check_complete(field, cast("dict[str, object]", getattr(answer, field)), shown)
    for key in answer.notes.keys() - set(shown):
        raise WrongAnswer(f"notes: completion {key} was not shown", "notes")
    for key in shown:
        missing = [flag for flag in FLAGS if flag not in answer.flags[key]]
        unknown = sorted(answer.flags[key].keys() - set(FLAGS))
        if missing or unknown:
            name = (missing or unknown)[0]
            what = "is not answered" if missing else "is no flag"
            raise WrongAnswer(f"flags: {name} of completion {letter(key, shown)} {what}", f"flags.{key}.{name}")
    notes = {key: note.strip() for key, note in answer.notes.items() if note.strip()}
    return ComparisonForm(answer.ratings, answer.flags, tiers_of(answer.ranks), notes)


def check_complete(field: str, values: dict[str, object], shown: Sequence[str]) -> None:
    """Refuse values that do not stand for exactly the completions shown."""
    for key in shown:
        if key not in values:
            word = {"ranks": "ranked", "ratings": "rated", "flags": "flagged"}[field]
            raise WrongAnswer(f"{field}: completion {letter(key, shown)} is not {word}", f"{field}.{key}")
    for key in sorted(values.keys() - set(shown)):
        raise WrongAnswer(f"{field}: completion {key} was not shown", field)


def letter(key: str, shown: Sequence[str]) -> str:
    """Return the letter under which a labeler sees a completion: A, B, …; after Z its number."""
    place = list(shown).index(key)
    return chr(ord("A") + place) if place < 26 else str(place + 1)


def tiers_of(ranks: dict[str, int]) -> tuple[tuple[str, ...], ...]:
    """Return tiers, best first; only the order of ranks counts, so 1, 1, 3 and 1, 1, 2 are the same."""
    return tuple(
        tuple(sorted(key for key, value in ranks.items() if value == rank)) for rank in sorted(set(ranks.values()))
    )


def annotation_fields(annotation: AnnotationAnswer | None) -> dict[str, bool | None] | None:
    """Return every field of Table 7, None where unanswered; None when nothing at all was said of the prompt."""
    if annotation is None or (
        annotation.category is None and not any(v is not None for v in annotation.fields.values())
    ):
        return None
    for name in sorted(annotation.fields.keys() - set(PROMPT_FIELDS)):
        raise WrongAnswer(f"annotation: {name} is no field", f"annotation.fields.{name}")
    return {name: annotation.fields.get(name) for name in PROMPT_FIELDS}


def answer_of(content: str | ComparisonForm) -> dict[str, Any]:
    """Return what is stored as the page sends it; ranks are those of a competition, so 1, 1, 3 for a tie at the top."""
    if isinstance(content, str):
        return {"text": content}
    better = accumulate((len(tier) for tier in content.tiers), initial=1)
    ranks = {key: rank for rank, tier in zip(better, content.tiers, strict=False) for key in tier}
    flags = {key: dict(values) for key, values in content.flags.items()}
    return {"ratings": dict(content.ratings), "flags": flags, "notes": dict(content.notes), "ranks": ranks}


def content_of(
    kind: TaskKind, answer: object, shown: Sequence[str]
) -> tuple[str | ComparisonForm, AnnotationAnswer | None]:
    """Return what the store keeps of an answer to a task of this kind, and what it says of the prompt."""
    if kind == "demonstrate":
        demonstration = read(DemonstrationAnswer, answer)
        return demonstration.text, demonstration.annotation
    comparison = read(ComparisonAnswer, answer)
    return comparison_form(comparison, shown), comparison.annotation
