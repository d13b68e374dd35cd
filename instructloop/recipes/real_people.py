"""What labelers do in the app in a round of the real recipe: write, rank and compare, as much as a few people can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from instructloop.stages import asking, s2_demonstrations, s4_samples, s5_rankings
from instructloop.stages.round import Step


def written(seed: int, sources: Sequence[str]) -> tuple[Step, ...]:
    """Return the demonstrations: 110 of them, one a prompt; `set` in loop.yaml asks for more."""
    config = s2_demonstrations.Config(
        num_train=100, num_valid=10, sources=tuple(sources), cohort="train", overlap=1, seed=seed
    )
    parents = {"prompts": "prompts"}
    return (
        Step(
            "demonstrations",
            s2_demonstrations.run,
            "s2_demonstrations",
            config,
            parents,
            by_people=True,
            asks=asking.WRITING,
        ),
    )


def ranked(seed: int, sources: Sequence[str], max_new_tokens: int) -> tuple[Step, ...]:
    """Return samples of SFT, 4 to 9 a prompt (paper 3.5), and their rankings: 144, a tenth of the tasks seen thrice."""
    samples = s4_samples.Config(
        num_prompts={"train": 100, "valid": 20},
        sources=tuple(sources),
        completions_per_prompt=(4, 9),
        mixture={"sft": 1.0},
        each_once=False,
        keep_unfinished=True,  # ours: few completions end within so few tokens
        temperature=1.0,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    return (
        Step("samples", s4_samples.run, "s4_samples", samples, {"prompts": "prompts", "policy.sft": "sft"}),
        _rankings("rankings", s5_rankings.Config(**_overlaps(seed), cohort="train", purpose="train"), "samples"),
    )


def judged(seed: int) -> tuple[Step, ...]:
    """Return what held-out labelers say of the policies, side by side on held-out users' prompts (paper 3.6)."""
    config = s5_rankings.Config(**_overlaps(seed), cohort="heldout", purpose="evaluation")
    return (_rankings("eval_rankings", config, "eval_samples"),)


def _rankings(name: str, config: s5_rankings.Config, samples: str) -> Step:
    return Step(name, s5_rankings.run, "s5_rankings", config, {"samples": samples}, by_people=True, asks=asking.RANKING)


def _overlaps(seed: int) -> dict[str, Any]:
    return {"overlap": 1, "shared_fraction": 0.1, "shared_overlap": 3, "seed": seed}
