"""Screening of would-be labelers on the criteria of the paper that have a number (appendix B.1); no database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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


def demonstration_grade(grades: Sequence[int], prompts: Sequence[str]) -> Interval:
    """Return the mean of the researchers' 1-7 grades, the paper's demonstration score."""
    if not grades or not all(1 <= grade <= 7 for grade in grades):
        raise ValueError(f"grades {list(grades)}: there must be some, each from 1 to 7")
    return mean_interval([float(grade) for grade in grades], prompts, bounds=(1.0, 7.0))
