"""The numbers of the microworld: every configuration of its stages, ours, beside the paper's where it has one."""

from __future__ import annotations

from typing import Any, Literal

from instructloop.core.records import Cohort
from instructloop.recipes import microworld_base as base
from instructloop.stages import s3_sft, s4_samples, s5_rankings, s6_reward, s7_ppo, s8_policy

Purpose = Literal["train", "evaluation"]
SOURCES = ("labeler", "customer")
NUM_FOLDS = 5
CONTEXT = 128
WINDOW = 96  # tokens of a piece of pretraining text
TEMPERATURE = 1.0
MAX_PROMPT_TOKENS = 80
MAX_NEW_TOKENS = 40
ADAM: dict[str, Any] = {"adam_betas": (0.9, 0.95), "adam_eps": 1e-8, "weight_decay": 0.0, "max_grad_norm": 1.0}
"""Adam's betas are the paper's (C); the clip is ours."""

GUARD: dict[str, Any] = {"guard_every": 10, "guard_prompts": 60, "guard_patience": 2, "guard_action": "warn"}
"""Of a PPO that has a fold's reward model to watch it: a check costs a third of a second at most."""


def base_model(seed: int) -> base.BaseConfig:
    return base.BaseConfig(
        vocabulary=1000,
        width=96,
        layers=3,
        heads=4,
        context=CONTEXT,
        window_tokens=WINDOW,
        batch_rows=16,
        num_steps=1500,
        lr=8e-3,
        matrix_lr=0.03,
        warmup_steps=50,
        decay_from=0.5,
        weight_decay=0.1,
        seed=seed,
    )


def sft(seed: int, **changes: Any) -> s3_sft.Config:
    values: dict[str, Any] = {
        "batch_rows": 16,
        "lr": 1e-3,
        "dropout": 0.0,
        "text_fraction": 0.0,
        "text_window_tokens": None,
        "learns_prompts": False,
        "max_prompt_tokens": MAX_PROMPT_TOKENS,
        "max_completion_tokens": MAX_NEW_TOKENS,
        "dtype": "float32",
        "keeps_epochs": False,
        "lora": None,
        "seed": seed,
    }
    return s3_sft.Config(**ADAM | values | changes)


def samples(seed: int, **changes: Any) -> s4_samples.Config:
    values: dict[str, Any] = {
        "sources": SOURCES,
        "completions_per_prompt": (4, 9),
        "mixture": {},
        "each_once": False,
        "keep_unfinished": False,
        "temperature": TEMPERATURE,
        "max_new_tokens": MAX_NEW_TOKENS,
        "seed": seed,
    }
    return s4_samples.Config(**values | changes)


def rankings(seed: int, cohort: Cohort, purpose: Purpose) -> s5_rankings.Config:
    """Most comparisons are seen by one labeler (B.5); a part by three, to measure agreement."""
    return s5_rankings.Config(
        cohort=cohort, purpose=purpose, overlap=1, shared_fraction=0.5, shared_overlap=3, seed=seed
    )


def reward(seed: int, fold: int | None) -> s6_reward.Config:
    return s6_reward.Config(
        **ADAM,
        num_epochs=1,
        batch_prompts=8,
        lr=1e-3,
        max_prompt_tokens=MAX_PROMPT_TOKENS,
        max_completion_tokens=MAX_NEW_TOKENS,
        dtype="float32",
        lora=None,
        num_folds=None if fold is None else NUM_FOLDS,
        fold=fold,
        seed=seed,
    )


def choice(seed: int, **changes: Any) -> s8_policy.Config:
    values: dict[str, Any] = {
        "folders": (),
        "prefixes": (),
        "num_prompts": 100,
        "sources": SOURCES,
        "min_finished_fraction": 0.5,
        "max_text_loss_rise": None,
        "num_texts": 0,
        "temperature": TEMPERATURE,
        "max_new_tokens": MAX_NEW_TOKENS,
        "seed": seed,
    }
    return s8_policy.Config(**values | changes)


def ppo(seed: int, **changes: Any) -> s7_ppo.Config:
    values: dict[str, Any] = {
        "num_iterations": 80,
        "episodes_per_iteration": 64,
        "num_minibatches": 8,
        "inner_epochs": 1,
        "lora": None,
        "lr": 1e-4,
        "value_lr": 3e-4,
        "warmup_iterations": 10,
        "kl_coef": 0.2,
        "kl_target": None,
        "kl_horizon": None,
        "clip_ratio": 0.2,
        "clip_value": 0.2,
        "gamma": 1.0,
        "lam": 0.95,
        "whiten_rewards": False,
        "ema_decay": 0.992,
        "temperature": TEMPERATURE,
        "sources": ("customer",),
        "max_prompt_tokens": MAX_PROMPT_TOKENS,
        "max_new_tokens": MAX_NEW_TOKENS,
        "missing_eos": "subtract",
        "missing_eos_penalty": 1.0,
        "ptx_coef": 0.0,
        "ptx_examples_per_episode": None,
        "ptx_window_tokens": None,
        "dtype": "float32",
        "snapshot_every": 20,
        "guard_every": None,
        "guard_prompts": None,
        "guard_patience": None,
        "guard_action": None,
        "seed": seed,
    }
    return s7_ppo.Config(**ADAM | values | changes)
