"""The guard of a PPO run, made of its configuration and parents, and what the report says of it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from instructloop.runs import Run
from instructloop.stages.actors import belongs_on, load_reward
from instructloop.stages.prompts_file import draw, read_prompts

if TYPE_CHECKING:
    from instructloop.stages.s7_ppo import Config
    from instructloop.train.ema import Ema
    from instructloop.train.guard import Guard
    from instructloop.train.rollouts import Actors

FIGURES = ("kl", "score", "train_score", "length", "repetition", "eos_fraction")
"""The metrics `guard/...` of a check that the report shows."""


def check(config: Config, parents: Mapping[str, Run]) -> None:
    """Refuse a guard that is half configured, or whose reward model is the one that is trained against."""
    settings = {
        "guard_every": config.guard_every,
        "guard_prompts": config.guard_prompts,
        "guard_patience": config.guard_patience,
        "guard_action": config.guard_action,
    }
    given = [value is not None for value in settings.values()]
    if any(one != ("guard" in parents) for one in given):
        named = ", ".join(f"{name} {value}" for name, value in settings.items())
        raise ValueError(
            f"{named} and a parent `guard` ({'given' if 'guard' in parents else 'none'}) belong together: "
            "all five, or None and none"
        )
    if "guard" in parents and parents["guard"].outputs == parents["reward"].outputs:
        raise ValueError(
            f"the guard must be another reward model than {parents['reward'].id}, which is trained against"
        )


def make_guard(
    config: Config, actors: Actors, ema: Ema, parents: Mapping[str, Run], on_warning: Callable[[str], None]
) -> Guard | None:
    """Return the guard with the reward model of `guard` and its draw of validation prompts; None where it is off."""
    if config.guard_every is None:
        return None
    from instructloop.models.lm import disable_dropout
    from instructloop.train.device import to_training_device
    from instructloop.train.guard import Guard, Watch

    assert config.guard_prompts is not None
    assert config.guard_patience is not None
    assert config.guard_action is not None
    is_shared = config.lora is not None and belongs_on(parents["guard"], parents["init"])
    heldout, text = load_reward(parents["guard"], actors.ref if is_shared else None)
    actors.text.require_same_ids(text)
    disable_dropout(heldout)
    to_training_device(heldout.requires_grad_(False), config.dtype).eval()
    prompts = draw(
        read_prompts(parents["prompts"]),
        config.guard_prompts,
        split="valid",
        sources=config.sources,
        seed=config.seed,
        what="the guard",
    )
    return Guard(
        actors,
        heldout,
        ema,
        [actors.text.prompt_ids(prompt.text, max_tokens=config.max_prompt_tokens) for prompt in prompts],
        config,
        watch=Watch(config.guard_every, config.num_iterations, config.guard_patience, config.guard_action),
        seed=config.seed,
        on_warning=on_warning,
    )


def summary(guard: Guard | None) -> dict[str, Any]:
    """Return what the manifest of a run says of its guard."""
    if guard is None or guard.best is None:
        return {}
    best = {"best_iteration": guard.best.iteration, "best_score": guard.best.score}
    return {"guard": {**best, "warnings": guard.warnings}}


def guards(parents: Mapping[str, Run]) -> dict[str, Any]:
    """Return the checks and warnings of the guarded PPO runs among a report's policies, by policy."""
    found: dict[str, Any] = {}
    for role, run in parents.items():
        kind, _, policy = role.partition(".")
        if kind in ("policy", "drift") and "guard" in run.summary:
            checks = [
                {"iteration": row["step"], **{name: row[f"guard/{name}"] for name in FIGURES}}
                for row in run.metrics()
                if "guard/score" in row
            ]
            found[policy] = {"checks": checks, **run.summary["guard"]}
    return found
