"""Stage 4: named policies write K completions of each prompt, for labelers to rank (paper 3.5)."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from pydantic import BaseModel, ConfigDict, Field

from instructloop.console import Console
from instructloop.core.records import Completion, Prompt, Split, content_id
from instructloop.runs import Run
from instructloop.stages.policies import load_policy
from instructloop.stages.prompts_file import draw, read_prompts, write_rows
from instructloop.workspace import Workspace


class Config(BaseModel):
    """Which prompts, which policies in which proportion, and how they are sampled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_prompts: Mapping[Split, int | None]  # None: all of that split
    sources: tuple[str, ...]
    completions_per_prompt: tuple[int, int]  # K, drawn evenly between the two (paper: 4 to 9)
    mixture: Mapping[str, float]  # policy -> weight in the draw of a prompt's K; ignored when each_once
    each_once: bool  # every policy exactly once per prompt: head to head
    keep_unfinished: bool  # completions without EOS; kept from labelers in training (spec 12.19)
    temperature: float = Field(ge=0)
    max_new_tokens: int = Field(gt=0)
    seed: int


def run(
    config: Config, *, workspace: Workspace, name: str, round: int, parents: Mapping[str, Run], console: Console
) -> Run:
    """Write `completions.jsonl`, and the completions into the store, from the policies among the parents."""
    policies = {role.removeprefix("policy."): parent for role, parent in parents.items() if role.startswith("policy.")}
    _check(config, policies)
    started = Run.start(
        workspace.runs,
        "s4_samples",
        name=name,
        round=round,
        config=config.model_dump(mode="json"),
        parents=parents,
    )
    prompts = [
        prompt
        for split, number in sorted(config.num_prompts.items())
        for prompt in draw(
            read_prompts(parents["prompts"]),
            number,
            split=split,
            sources=config.sources,
            seed=config.seed,
            what=name,
        )
    ]
    wanted = _assign(config, prompts, sorted(policies))
    sampled = [
        completion
        for policy, parent in sorted(policies.items())
        for completion in _sample(config, policy, parent, wanted[policy], console)
    ]
    kept, dropped = _keep(config, sampled)
    workspace.store.add_completions(kept)
    write_rows(started.file("completions.jsonl"), (asdict(completion) for completion in kept))
    counts = ", ".join(f"{number} {reason}" for reason, number in dropped.items())
    console.log(f"{name}: kept {len(kept)} of {len(sampled)} completions for {len(prompts)} prompts ({counts})")
    started.finish("completions.jsonl", summary={"prompts": len(prompts), "completions": len(kept), **dropped})
    return started


def _check(config: Config, policies: Mapping[str, Run]) -> None:
    if config.each_once:
        return
    low, high = config.completions_per_prompt
    if not 2 <= low <= high:
        raise ValueError(f"completions_per_prompt {low} to {high}: a ranking needs at least 2, and low <= high")
    if set(config.mixture) != set(policies):
        raise ValueError(
            f"mixture names {', '.join(sorted(config.mixture))}; the policies are {', '.join(sorted(policies))}"
        )


def _assign(config: Config, prompts: Sequence[Prompt], policies: Sequence[str]) -> dict[str, list[Prompt]]:
    """Return, by policy, the prompts it completes: as often as it was drawn for them, seeded by prompt."""
    wanted: dict[str, list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        if config.each_once:
            drawn = list(policies)
        else:
            chance = random.Random(f"{config.seed}/{prompt.id}")
            weights = [config.mixture[policy] for policy in policies]
            drawn = chance.choices(policies, weights, k=chance.randint(*config.completions_per_prompt))
        for policy in drawn:
            wanted[policy].append(prompt)
    return wanted


def _sample(config: Config, name: str, run: Run, prompts: Sequence[Prompt], console: Console) -> list[Completion]:
    """Sample one completion per entry of `prompts`; a prompt that stands there twice gets two, told apart by index."""
    if not prompts:
        return []
    policy = load_policy(name, run)
    seed = int(content_id("seed", name, str(config.seed))[5:13], 16)
    generations = policy.generate(
        [prompt.text for prompt in prompts],
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        seed=seed,
    )
    settings = {"temperature": config.temperature, "max_new_tokens": config.max_new_tokens, "seed": seed}
    seen: dict[str, int] = defaultdict(int)
    completions: list[Completion] = []
    for prompt, generation in zip(prompts, generations, strict=True):
        completions.append(
            Completion.make(
                prompt.id,
                generation.text,
                policy=name,
                policy_run=run.id,
                index=seen[prompt.id],
                sampling=settings,
                finished=generation.finished,
            )
        )
        seen[prompt.id] += 1
    console.log(f"{name} wrote {len(completions)} completions")
    return completions


def _keep(config: Config, sampled: Sequence[Completion]) -> tuple[list[Completion], dict[str, int]]:
    """Drop what labelers should not see, counted: unfinished, repeated, and prompts left with fewer than two."""
    dropped = {"unfinished": 0, "repeated": 0, "of prompts with fewer than 2 left": 0}
    by_prompt: dict[str, list[Completion]] = defaultdict(list)
    texts: set[tuple[str, str]] = set()
    for completion in sampled:
        if not config.keep_unfinished and not completion.finished:
            dropped["unfinished"] += 1
        elif not config.each_once and (completion.prompt_id, completion.text) in texts:
            dropped["repeated"] += 1
        else:
            texts.add((completion.prompt_id, completion.text))
            by_prompt[completion.prompt_id].append(completion)
    kept: list[Completion] = []
    for _, completions in sorted(by_prompt.items()):
        if len(completions) < 2:
            dropped["of prompts with fewer than 2 left"] += len(completions)
        else:
            kept.extend(completions)
    return kept, dropped
