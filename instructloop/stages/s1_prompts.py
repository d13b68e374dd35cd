"""Stage 1: collect prompts, clean them and split them by user (paper 3.2, A.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict

from pydantic import BaseModel, ConfigDict, Field

from instructloop.console import Console
from instructloop.core.prompts import clean
from instructloop.core.records import Prompt
from instructloop.runs import Run
from instructloop.stages.prompts_file import prompts_digest, write_rows
from instructloop.workspace import Workspace


class Config(BaseModel):
    """How prompts are cleaned and split; the paper gives the cap, the key of the split and the rule for PII."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix_characters: int = Field(gt=0)  # prompts that share so long a prefix are one
    max_per_user: int = Field(gt=0)
    valid_fraction: float = Field(ge=0, lt=1)  # of users
    test_fraction: float = Field(ge=0, lt=1)
    seed: int


def run(
    config: Config,
    *,
    workspace: Workspace,
    name: str,
    round: int,
    parents: Mapping[str, Run],
    console: Console,
    raw: Callable[[], Iterable[Prompt]],
) -> Run:
    """Write `prompts.jsonl`, each with source, user and split, and put the prompts into the store."""
    prompts = list(raw())
    started = Run.start(
        workspace.runs,
        "s1_prompts",
        name=name,
        round=round,
        config=config.model_dump(mode="json"),
        parents=parents,
        inputs={"raw_prompts": prompts_digest(prompts)},
    )
    kept = clean(
        prompts,
        prefix_characters=config.prefix_characters,
        max_per_user=config.max_per_user,
        fractions={
            "train": 1.0 - config.valid_fraction - config.test_fraction,
            "valid": config.valid_fraction,
            "test": config.test_fraction,
        },
        seed=config.seed,
    )
    workspace.store.add_prompts(kept.prompts)
    write_rows(started.file("prompts.jsonl"), (asdict(prompt) for prompt in kept.prompts))
    dropped = "".join(f", {number} {reason}" for reason, number in kept.dropped.items())
    splits = Counter(str(prompt.split) for prompt in kept.prompts)
    console.log(f"{name}: kept {len(kept.prompts)} of {len(prompts)} prompts{dropped}")
    started.finish("prompts.jsonl", summary={"read": len(prompts), "dropped": kept.dropped, **splits})
    return started
