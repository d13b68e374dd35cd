"""The comparison form: the order in which completions are shown, and what a filled-in form must satisfy; no SQL."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from instructloop.core.questions import CONDITIONAL_FLAGS
from instructloop.core.records import FLAGS
from instructloop.store.rows import ComparisonForm, Flags, Tiers


def presentation_order(task_id: str, labeler_id: str, completion_ids: Iterable[str]) -> list[str]:
    """Return completions in this labeler's order on this task: sorted by a hash of all three, so uniformly shuffled."""

    def rank(completion_id: str) -> str:
        return hashlib.sha256("\x1f".join((task_id, labeler_id, completion_id)).encode()).hexdigest()

    return sorted(completion_ids, key=rank)


def checked_form(form: ComparisonForm, shown: Sequence[str]) -> tuple[Tiers, list[dict[str, Any]]]:
    """Return the tiers and one row per completion shown (rating, flags, note; None = unanswered), sorted by id.

    Tiers come without empty ones and sorted inside, since a tie has no order.
    """
    tiers = checked_tiers(form.tiers, shown)
    for field, values in (("ratings", form.ratings), ("flags", form.flags), ("notes", form.notes)):
        unknown = sorted(values.keys() - set(shown))
        if unknown:
            raise ValueError(f"{field}: completion {unknown[0]} was not shown")
    return tiers, [
        {
            "completion_id": key,
            "rating": checked_rating(key, form.ratings.get(key)),
            "flags": checked_flags(key, form.flags.get(key, {})),
            "note": form.notes.get(key) or None,
        }
        for key in sorted(shown)
    ]


def check_answered(form: ComparisonForm, shown: Sequence[str]) -> None:
    """Refuse a form of the app in which a question is merely absent: None counts where it was said, and may be said."""
    for key in shown:
        if key not in form.ratings:
            raise ValueError(f"ratings: completion {key} has none; say null where it cannot be rated")
        flags = form.flags.get(key, {})
        for flag in FLAGS:
            if flag not in flags:
                raise ValueError(f"flags: {flag} of completion {key} is not answered")
            if flags[flag] is None and flag not in CONDITIONAL_FLAGS:
                raise ValueError(f"flags: {flag} of completion {key} must be true or false")


def checked_tiers(tiers: Sequence[Sequence[str]], shown: Sequence[str]) -> Tiers:
    """Return the tiers in normal form; ValueError unless they hold each completion shown exactly once."""
    counts = Counter(key for tier in tiers for key in tier)
    problems = (
        ("is ranked twice", [key for key, number in counts.items() if number > 1]),
        ("was not shown", counts.keys() - set(shown)),
        ("is not ranked", set(shown) - counts.keys()),
    )
    for problem, keys in problems:
        if keys:
            raise ValueError(f"tiers: completion {min(keys)} {problem}")
    return tuple(tuple(sorted(tier)) for tier in tiers if tier)


def checked_rating(key: str, rating: object) -> int | None:
    """Return a rating of 1 to 7, or None."""
    if rating is None:
        return None
    if isinstance(rating, bool) or not isinstance(rating, int) or not 1 <= rating <= 7:
        raise ValueError(f"rating {rating!r} of completion {key} must be a whole number from 1 to 7")
    return rating


def checked_flags(key: str, flags: Flags) -> dict[str, bool | None]:
    """Return all eleven flags, None where the labeler did not answer."""
    for flag, value in flags.items():
        if flag not in FLAGS:
            raise ValueError(f"flag {flag!r} of completion {key} must be one of {', '.join(FLAGS)}")
        if value is not None and not isinstance(value, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"flag {flag} of completion {key} is {value!r}; it must be true, false or null")
    return {flag: flags.get(flag) for flag in FLAGS}
