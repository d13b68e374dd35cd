"""Ranks that a researcher chose on a form as tiers of completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class RankError(ValueError):
    """A form of ranks that cannot be kept yet, in a sentence for who filled it in."""


def tiers_of(ranks: Mapping[str, str], completion_ids: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return tiers, best first, from completion -> rank as posted; the same rank is a tie, gaps between ranks close up.

    RankError unless exactly these completions have a rank from 1 to their number each.
    """
    if set(ranks) - set(completion_ids):
        raise RankError("The form does not belong to this task; load the page again.")
    allowed = {str(rank): rank for rank in range(1, len(completion_ids) + 1)}
    chosen = {key: allowed.get(ranks.get(key, "")) for key in completion_ids}
    if missing := sum(rank is None for rank in chosen.values()):
        raise RankError(f"{missing} of {len(completion_ids)} completions have no rank yet.")
    return tuple(
        tuple(key for key in completion_ids if chosen[key] == rank)
        for rank in sorted({rank for rank in chosen.values() if rank is not None})
    )


def letters(completion_ids: Sequence[str]) -> dict[str, str]:
    """Return completion -> the letter by which a page calls it."""
    return {key: chr(ord("A") + i) for i, key in enumerate(completion_ids)}
