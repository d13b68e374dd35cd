"""The nouns of the loop as text: prompts, demonstrations, completions and rankings; no tensors, no database."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Split = Literal["train", "valid", "test"]
Cohort = Literal["train", "heldout", "screening", "researcher"]
Kind = Literal["plain", "few_shot", "user_based"]
Category = Literal[
    "generation",
    "open_qa",
    "brainstorming",
    "chat",
    "rewrite",
    "summarization",
    "classification",
    "other",
    "closed_qa",
    "extract",
]
"""The ten use cases of Table 1, most frequent first."""

SPLITS: tuple[Split, ...] = get_args(Split)
COHORTS: tuple[Cohort, ...] = get_args(Cohort)
CATEGORIES: tuple[Category, ...] = get_args(Category)

FLAGS: tuple[str, ...] = (
    "fails_instruction",
    "inappropriate_for_assistant",
    "hallucination",
    "satisfies_constraint",
    "sexual_content",
    "violent_content",
    "encourages_harm",
    "denigrates_protected_class",
    "harmful_advice",
    "expresses_opinion",
    "moral_judgment",
)
"""The eleven yes/no questions that a labeler answers of every completion (Table 3)."""


def content_id(kind: str, *parts: str) -> str:
    """Return `kind` and 16 hex digits of the SHA-256 over `parts`: equal content, equal id, on every machine."""
    digest = hashlib.sha256("\x1f".join((kind, *parts)).encode()).hexdigest()
    return f"{kind}-{digest[:16]}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a person asks of the model, with who asked and where it came from (paper 3.2, A.2)."""

    id: str
    text: str
    source: str  # "labeler", "customer" or "import:NAME"
    user: str  # the key of the cap and of the split
    split: Split | None = None  # None until stage 1 has split by user
    kind: Kind = "plain"
    category: Category | None = None

    @staticmethod
    def make(
        text: str,
        *,
        source: str,
        user: str,
        split: Split | None = None,
        kind: Kind = "plain",
        category: Category | None = None,
    ) -> Prompt:
        """Build a prompt whose id is derived from source, user and text."""
        return Prompt(content_id("prompt", source, user, text), text, source, user, split, kind, category)


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A good completion that a labeler wrote for a prompt (paper 3.4)."""

    id: str
    prompt_id: str
    text: str
    labeler: str


@dataclass(frozen=True, slots=True)
class Completion:
    """What a policy wrote for a prompt, and how it was sampled; `index` tells apart samples of one policy."""

    id: str
    prompt_id: str
    text: str
    policy: str  # name of the policy, or "human" and the like for imported text
    policy_run: str  # id of the run that made the policy, or the origin of imported text
    index: int
    sampling: Mapping[str, float | int | str] = field(default_factory=dict[str, "float | int | str"])
    finished: bool = True  # False: the token budget ran out before EOS

    @staticmethod
    def make(
        prompt_id: str,
        text: str,
        *,
        policy: str,
        policy_run: str,
        index: int,
        sampling: Mapping[str, float | int | str],
        finished: bool,
    ) -> Completion:
        """Build a completion whose id is derived from prompt, policy run, index and text."""
        identity = content_id("completion", prompt_id, policy, policy_run, str(index), text)
        return Completion(identity, prompt_id, text, policy, policy_run, index, dict(sampling), finished)


@dataclass(frozen=True, slots=True)
class Ranking:
    """One labeler's order of one prompt's completions; `tiers` are completion ids, best tier first, one tier = tied."""

    prompt_id: str
    labeler: str
    tiers: tuple[tuple[str, ...], ...]
