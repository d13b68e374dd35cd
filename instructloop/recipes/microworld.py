"""The whole loop in a closed world: simulated labelers, a base model made from scratch, eight minutes on two cores."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from instructloop.evals.paper_results import paper_results
from instructloop.microworld.corpus import HEADING, tasks
from instructloop.microworld.judge import Judge
from instructloop.microworld.miniature import num_tokens
from instructloop.microworld.prompts import raw_prompts
from instructloop.microworld.world import World, world_of
from instructloop.recipes import microworld_base as base
from instructloop.recipes import microworld_numbers as numbers
from instructloop.recipes.microworld_benchmarks import benchmarks
from instructloop.recipes.microworld_people import work_all
from instructloop.recipes.overrides import overridden
from instructloop.stages import (
    asking,
    s1_prompts,
    s2_demonstrations,
    s3_sft,
    s4_samples,
    s5_rankings,
    s6_reward,
    s7_ppo,
    s8_policy,
    s9_evaluation,
)
from instructloop.stages.prompts_file import prompts_digest
from instructloop.stages.round import Recipe, Step
from instructloop.workspace import Workspace

POLICIES = {
    "base": "Base",
    "base_prompted": "Base, prompted",
    "sft": "SFT",
    "ppo": "PPO",
    "ppo_ptx": "PPO-ptx",
}
ON_A_LONG_LEASH = {"ppo_loose": "PPO, long leash", "ppo_ptx_loose": "PPO-ptx, long leash"}
STEP_OF = {  # policy -> the step that makes it
    "base": "base",
    "base_prompted": "base_prompted",
    "sft": "sft_chosen",
    "ppo": "ppo",
    "ppo_ptx": "ppo_ptx",
}
NUM_PREFIXES = 6
MAX_PAIR_TOKENS = 20  # so that prefix, prompt and completion fit what the base model was trained on
LOOSE: dict[str, Any] = {"num_iterations": 30, "snapshot_every": 10, "lr": 2e-4, "kl_coef": 0.003}
"""PPO on a long leash: where it ends shows what is gamed."""


def recipe(workspace: Workspace) -> Recipe:
    """Return the steps of a round in the world of the workspace's seed."""
    seed = workspace.seed
    world = world_of(seed)
    steps = (
        *_ground(world, seed),
        *_supervised(seed, _people(workspace, world, "train")),
        *_reward(seed, _people(workspace, world, "train")),
        *_folds(seed),
        *_reinforced(world, seed),
        *_evaluation(world, workspace, _people(workspace, world, "evaluation")),
    )
    return Recipe("microworld", overridden(steps, workspace), published=dict(STEP_OF), workers=2, threads=1)


def _people(workspace: Workspace, world: World, purpose: numbers.Purpose) -> Mapping[str, Any]:
    """Return the hooks of a step of people: the simulated labelers, or none where it waits for the app."""
    return {} if workspace.waits_for_people else {"people": work_all(world, workspace.seed, purpose)}


def _ground(world: World, seed: int) -> tuple[Step, ...]:
    """Return what a round starts from: text, the base model made of it, prompts."""
    raw = raw_prompts(world)
    inputs = {"raw_prompts": prompts_digest(raw)}
    return (
        Step(
            "pretraining",
            base.write_text,
            "import",
            base.TextConfig(num_documents=55_000, num_heldout=200, max_heldout_tokens=numbers.WINDOW, seed=seed),
            inputs=inputs,
            hooks={"world": world, "inputs": inputs},
        ),
        Step("base", base.pretrain, "pretrain", numbers.base_model(seed), {"text": "pretraining"}),
        Step(
            "prompts",
            s1_prompts.run,
            "s1_prompts",
            s1_prompts.Config(
                prefix_characters=60, max_per_user=200, valid_fraction=0.1, test_fraction=0.25, seed=seed
            ),
            inputs=inputs,
            hooks={"raw": lambda: raw},
        ),
    )


def _supervised(seed: int, people: Mapping[str, Any]) -> tuple[Step, ...]:
    """Return demonstrations and two SFT models: the baseline, and the init of PPO with text in its batches (C.3)."""
    return (
        Step(
            "demonstrations",
            s2_demonstrations.run,
            "s2_demonstrations",
            s2_demonstrations.Config(
                num_train=600, num_valid=60, sources=numbers.SOURCES, cohort="train", overlap=1, seed=seed
            ),
            {"prompts": "prompts"},
            hooks=people,
            by_people=True,
            asks=asking.WRITING,
        ),
        Step(
            "sft",
            s3_sft.run,
            "s3_sft",
            numbers.sft(seed, num_epochs=16, dropout=0.2, keeps_epochs=True),
            {"base": "base", "demonstrations": "demonstrations"},
        ),
        Step(
            "ppo_init",
            s3_sft.run,
            "s3_sft",
            numbers.sft(seed, num_epochs=2, batch_rows=8, text_fraction=0.1, text_window_tokens=64),
            {"base": "base", "demonstrations": "demonstrations", "pretraining": "pretraining"},
        ),
    )


def _comparisons(
    seed: int, people: Mapping[str, Any], mixture: dict[str, float], suffix: str, num_prompts: int
) -> tuple[Step, ...]:
    """Return samples of a mixture of policies, and their rankings."""
    samples = numbers.samples(seed, num_prompts={"train": num_prompts, "valid": num_prompts // 8}, mixture=mixture)
    return (
        Step(
            f"samples{suffix}",
            s4_samples.run,
            "s4_samples",
            samples,
            {"prompts": "prompts", **{f"policy.{policy}": policy for policy in mixture}},
        ),
        Step(
            f"rankings{suffix}",
            s5_rankings.run,
            "s5_rankings",
            numbers.rankings(seed, "train", "train"),
            {"samples": f"samples{suffix}"},
            hooks=people,
            by_people=True,
            asks=asking.RANKING,
        ),
    )


def _reward(seed: int, people: Mapping[str, Any]) -> tuple[Step, ...]:
    """Return rankings of supervised policies, then of two PPO policies too, and what is learned from all (3.5, 4.1).

    The paper's comparisons come mostly from supervised policies, some from PPO policies: a reward model that never saw
    what PPO finds praises it. The first two of these policies go far on a long leash to find it.
    """
    learned = {"demonstrations": "demonstrations", "init": "ppo_init"}
    first, second = {"rankings": "rankings"}, {"rankings.second": "rankings_second"}
    return (
        *_comparisons(seed, people, {"sft": 0.5, "ppo_init": 0.4, "base": 0.1}, "", 1000),
        *_scout(seed, "first", {**first, **learned}),
        *_comparisons(seed, people, {"ppo_first": 0.6, "sft": 0.4}, "_second", 700),
        *_scout(seed, "second", {**first, **second, **learned}),
        *_comparisons(seed, people, {"ppo_second": 0.6, "sft": 0.4}, "_third", 700),
        Step("reward", s6_reward.run, "s6_reward", numbers.reward(seed, None), _learned_from()),
    )


def _scout(seed: int, which: str, learned_from: dict[str, str]) -> tuple[Step, ...]:
    """Return a reward model of the rankings so far and a short PPO against it, which shows what it wrongly praises."""
    config = numbers.ppo(seed, num_iterations=30, lr=2e-4, kl_coef=0.05, snapshot_every=None)
    parents = {"prompts": "prompts", "init": "ppo_init", "reward": f"reward_{which}"}
    return (
        Step(f"reward_{which}", s6_reward.run, "s6_reward", numbers.reward(seed, None), learned_from),
        Step(f"ppo_{which}", s7_ppo.run, "s7_ppo", config, parents),
    )


def _learned_from() -> dict[str, str]:
    rankings = {"rankings": "rankings", "rankings.second": "rankings_second", "rankings.third": "rankings_third"}
    return {**rankings, "demonstrations": "demonstrations", "init": "ppo_init"}


def _folds(seed: int) -> tuple[Step, ...]:
    """Return the reward models that leave a fifth of the labelers out (4.1, E.2)."""
    return tuple(
        Step(f"reward_fold_{fold + 1}", s6_reward.run, "s6_reward", numbers.reward(seed, fold), _learned_from())
        for fold in range(numbers.NUM_FOLDS)
    )


def _prefixes(world: World, seed: int) -> tuple[str, ...]:
    """Return few-shot prefixes among which the reward model chooses, as it did between two authors' (7)."""
    rng, found = Random(f"prefixes {seed}"), [f"{HEADING}\n"]
    while len(found) < NUM_PREFIXES:
        pair = "\n".join(tasks(world, rng).removeprefix(f"{HEADING}\n").split("\n")[:2])
        if num_tokens(pair) <= MAX_PAIR_TOKENS:
            found.append(f"{HEADING}\n{pair}\n")
    return tuple(found)


def _reinforced(world: World, seed: int) -> tuple[Step, ...]:
    """Return the choices that need the reward model (C.1, 7), PPO, PPO-ptx, and both of them on a long leash.

    A reward model that never saw a fifth of the labelers watches each PPO and warns; it changes nothing. The longest
    step comes first, so that no worker waits for it at the end.
    """
    chooses = {"prompts": "prompts", "reward": "reward"}
    learns = {"prompts": "prompts", "init": "ppo_init", "reward": "reward", "guard": "reward_fold_1"}
    learns_with_text = {**learns, "pretraining": "pretraining"}
    ptx = {"ptx_coef": 0.3, "ptx_examples_per_episode": 0.5, "ptx_window_tokens": numbers.WINDOW}
    return (
        Step(
            "sft_chosen",
            s8_policy.run,
            "s8_policy",
            numbers.choice(seed, folders=("epochs/*",)),
            {**chooses, "candidate.sft": "sft"},
        ),
        Step(
            "base_prompted",
            s8_policy.run,
            "s8_policy",
            numbers.choice(seed, prefixes=_prefixes(world, seed), min_finished_fraction=0.0),
            {**chooses, "candidate.base": "base"},
        ),
        Step("ppo_ptx", s7_ppo.run, "s7_ppo", numbers.ppo(seed, **numbers.GUARD, **ptx), learns_with_text),
        Step("ppo", s7_ppo.run, "s7_ppo", numbers.ppo(seed, **numbers.GUARD), learns),
        Step(
            "ppo_ptx_loose",
            s7_ppo.run,
            "s7_ppo",
            numbers.ppo(seed, **numbers.GUARD, **LOOSE, **ptx),
            learns_with_text,
        ),
        Step("ppo_loose", s7_ppo.run, "s7_ppo", numbers.ppo(seed, **numbers.GUARD, **LOOSE), learns),
        Step(
            "policy",
            s8_policy.run,
            "s8_policy",
            numbers.choice(seed, max_text_loss_rise=0.1, num_texts=100),
            {
                "prompts": "prompts",
                **{f"reward.fold_{fold + 1}": f"reward_fold_{fold + 1}" for fold in range(numbers.NUM_FOLDS)},
                "text": "pretraining",
                "candidate.1_ppo_ptx": "ppo_ptx",
                "candidate.2_ppo": "ppo",
            },
        ),
    )


def _evaluation(world: World, workspace: Workspace, people: Mapping[str, Any]) -> tuple[Step, ...]:
    """Return head to head on held-out users' prompts by held-out labelers, and the report of everything."""
    policies = {f"policy.{policy}": step for policy, step in STEP_OF.items()}
    seed, judge = workspace.seed, Judge(world)
    config = s9_evaluation.Config(
        title="The loop in a microworld",
        simulated=not workspace.waits_for_people,
        baseline="sft",
        policies=POLICIES | ON_A_LONG_LEASH,
        benchmarked=("base", "sft", "ppo", "ppo_ptx", *ON_A_LONG_LEASH),
        gold_tie_margin=0.05,
        num_samples=24,
        num_drift_prompts=100,
        temperature=numbers.TEMPERATURE,
        max_new_tokens=numbers.MAX_NEW_TOKENS,
        seed=seed,
    )
    return (
        Step(
            "eval_samples",
            s4_samples.run,
            "s4_samples",
            numbers.samples(seed, num_prompts={"test": None}, each_once=True, keep_unfinished=True),
            {"prompts": "prompts", **policies},
        ),
        Step(
            "eval_rankings",
            s5_rankings.run,
            "s5_rankings",
            numbers.rankings(seed, "heldout", "evaluation"),
            {"samples": "eval_samples"},
            hooks=people,
            by_people=True,
            asks=asking.RANKING,
        ),
        Step(
            "evaluation",
            s9_evaluation.run,
            "s9_evaluation",
            config,
            {
                "prompts": "prompts",
                "rankings": "rankings",
                "reward": "reward",
                "eval_samples": "eval_samples",
                "eval_rankings": "eval_rankings",
                **policies,
                **{f"fold.{fold + 1}": f"reward_fold_{fold + 1}" for fold in range(numbers.NUM_FOLDS)},
                **{f"drift.{step}": step for step in ("ppo", "ppo_ptx", *ON_A_LONG_LEASH)},
                "choice": "policy",
            },
            hooks={
                "benchmarks": lambda: benchmarks(world, seed, context=numbers.WINDOW),
                "gold": lambda prompt, completion: judge.assess(prompt, completion).utility,
                "paper": paper_results(),
            },
        ),
    )
