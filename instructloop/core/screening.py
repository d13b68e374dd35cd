"""Screening of would-be labelers on the criteria of the paper that have a number (appendix B.1); no database."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from instructloop.core.agreement import agreement_between
from instructloop.core.rankings import Interval, mean_interval, proportion
from instructloop.core.records import Ranking

SENSITIVE = (
    "inappropriate_for_assistant",
    "sexual_content",
    "violent_content",
    "encourages_harm",
    "denigrates_protected_class",
    "harmful_advice",
)
"""Flags that make a completion sensitive: likely to cause strong negative feeling."""

Tiers = Sequence[Sequence[str]]
Flagged = Mapping[str, Mapping[str, bool | None]]
"""Completion -> flag -> yes, no or not answered."""


@dataclass(frozen=True, slots=True)
class CutOffs:
    """Least flag agreement, least ranking agreement (shares), least mean grade of demonstrations (1-7)."""

    flags: float
    rankings: float
    demonstrations: float

    def __post_init__(self) -> None:
        for name, low, high in (("flags", 0, 1), ("rankings", 0, 1), ("demonstrations", 1, 7)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"cut-off {name} {value} must lie between {low} and {high}")


PAPER_CUT_OFFS = CutOffs(flags=0.75, rankings=0.75, demonstrations=6.0)
"""The soft cut-offs of appendix B.1."""


def is_sensitive(flags: Mapping[str, bool | None]) -> bool:
    """Return whether any flag of SENSITIVE is raised; an unanswered one raises nothing."""
    return any(flags.get(flag) for flag in SENSITIVE)


def flag_agreement(given: Flagged, truth: Flagged, prompt_of: Mapping[str, str]) -> Interval:
    """Return the share of the completions of `truth` on which `given` says the same about being sensitive at all.

    `prompt_of` names the cluster of each completion. ValueError unless both hold the same completions.
    """
    if given.keys() != truth.keys() or not truth:
        raise ValueError(
            f"flags of {len(given)} completions against {len(truth)}: they must be the same ones, and some"
        )
    agreed = [float(is_sensitive(given[name]) == is_sensitive(truth[name])) for name in truth]
    return proportion(agreed, [prompt_of[name] for name in truth])


def ranking_agreement(given: Iterable[Ranking], researcher: Iterable[Ranking]) -> Interval:
    """Return the share of pairs of completions on which the candidate agrees with a researcher, without tied pairs."""
    return agreement_between(given, researcher, ties="drop")


def kendall_tau(tiers: Tiers, others: Tiers) -> float | None:
    """Return Kendall's tau-b of two rankings of the same items: (C - D) / sqrt((P - T) (P - U)) (Kendall 1945).

    C of P pairs are ordered alike, D the other way round; T are tied in the one, U in the other. None where one of the
    two ties everything. ValueError unless both hold the same items.
    """
    place, other = ({item: place for place, tier in enumerate(ranking) for item in tier} for ranking in (tiers, others))
    if place.keys() != other.keys():
        raise ValueError(f"rankings of {len(place)} and {len(other)} items: they must be the same ones")
    signs = [(_sign(place[x], place[y]), _sign(other[x], other[y])) for x, y in combinations(sorted(place), 2)]
    untied = [sum(signs_of_one) for signs_of_one in zip(*((abs(a), abs(b)) for a, b in signs), strict=True)]
    if not signs or 0 in untied:
        return None
    return sum(a * b for a, b in signs) / math.sqrt(untied[0] * untied[1])


def kendall_tau_mean(given: Sequence[Ranking], researcher: Sequence[Ranking]) -> Interval | None:
    """Return the mean tau-b of rankings with those of a researcher, one by one; None where no tau-b exists."""
    taus = [(kendall_tau(a.tiers, b.tiers), a.prompt_id) for a, b in zip(given, researcher, strict=True)]
    known = [(tau, prompt) for tau, prompt in taus if tau is not None]
    if not known:
        return None
    return mean_interval([tau for tau, _ in known], [prompt for _, prompt in known], bounds=(-1.0, 1.0))


def _sign(x: int, y: int) -> int:
    return (x > y) - (x < y)


def demonstration_grade(grades: Sequence[int], prompts: Sequence[str]) -> Interval:
    """Return the mean of the researchers' 1-7 grades, the paper's demonstration score."""
    if not grades or not all(1 <= grade <= 7 for grade in grades):
        raise ValueError(f"grades {list(grades)}: there must be some, each from 1 to 7")
    return mean_interval([float(grade) for grade in grades], prompts, bounds=(1.0, 7.0))
