"""Configurations for models that people have: 100 to 200 million weights on a laptop, 1 to 8 billion on one large GPU.

What is the paper's is taken from recipes/paper.py; the rest is ours and says why. Layers are not recomputed in the
backward pass (gradient checkpointing): micro-batches of four rows are what 8 billion weights leave room for on 139 GiB.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from instructloop.models.lora import Lora
from instructloop.recipes import paper
from instructloop.stages import s3_sft, s6_reward, s7_ppo

Machine = Literal["laptop", "gpu"]
MACHINES: tuple[Machine, ...] = get_args(Machine)

MAX_PROMPT_TOKENS: dict[Machine, int] = {"laptop": 192, "gpu": paper.MAX_PROMPT_TOKENS}
MAX_NEW_TOKENS: dict[Machine, int] = {"laptop": 48, "gpu": 256}  # ours: of a rollout, whose cost grows with them
ADAM = paper.ADAM
DTYPE: dict[Machine, Literal["float32", "bfloat16"]] = {  # ours: on some processors bfloat16 is half as fast, on others
    "laptop": "float32",  # twice; `instructloop plan` measures both here (docs/decisions/0007-precision.md)
    "gpu": "bfloat16",
}
LORA: dict[
    Machine, Lora | None
] = {  # ours: on a GPU the four networks of PPO then stand on one copy of 8 billion weights
    "laptop": None,
    "gpu": Lora(rank=16, alpha=32.0, targets="all-linear"),
}
LORA_RATE = 10  # ours: times the paper's rates, which are of all weights; an adapter wants about that (Biderman 2024)


def sft(machine: Machine, *, seed: int) -> s3_sft.Config:
    """Return SFT: one pass over the demonstrations, two on a GPU; the paper's 16 are chosen among afterwards."""
    sizes: dict[Machine, dict[str, Any]] = {
        "laptop": {"num_epochs": 1, "batch_rows": 16, "lr": 2e-5, "max_completion_tokens": 128, "micro_batch_rows": 8},
        "gpu": {
            "num_epochs": 2,
            "batch_rows": paper.SFT_BATCH_ROWS["6B"],
            "lr": LORA_RATE * paper.SFT_LR["6B"],
            "max_completion_tokens": paper.MAX_COMPLETION_TOKENS,
            "micro_batch_rows": 4,
        },
    }
    return s3_sft.Config(
        **ADAM,
        **sizes[machine],
        dropout=0.0,  # ours: with so few passes there is nothing to hold back
        text_fraction=0.0,
        text_window_tokens=None,
        learns_prompts=False,
        max_prompt_tokens=MAX_PROMPT_TOKENS[machine],
        dtype=DTYPE[machine],
        lora=LORA[machine],
        keeps_epochs=False,
        seed=seed,
    )


def reward(machine: Machine, *, seed: int) -> s6_reward.Config:
    """Return a reward model: one epoch, as C.2 has it."""
    sizes: dict[Machine, dict[str, Any]] = {
        "laptop": {"batch_prompts": 16, "lr": 2e-5, "max_completion_tokens": 224, "micro_batch_rows": 8},
        "gpu": {
            "batch_prompts": 64,  # C.2
            "lr": LORA_RATE * 9e-6,  # C.2
            "max_completion_tokens": paper.MAX_COMPLETION_TOKENS,
            "micro_batch_rows": 4,
        },
    }
    return s6_reward.Config(
        **ADAM,
        **sizes[machine],
        num_epochs=1,  # C.2: more overfit
        max_prompt_tokens=MAX_PROMPT_TOKENS[machine],
        dtype=DTYPE[machine],
        lora=LORA[machine],
        num_folds=None,
        fold=None,
        seed=seed,
    )


def ppo(machine: Machine, *, sources: tuple[str, ...], ptx: bool, seed: int) -> s7_ppo.Config:
    """Return PPO, with `ptx` PPO-ptx: minutes on a laptop, 51,200 episodes on a GPU, a fifth of the paper's."""
    sizes: dict[Machine, dict[str, Any]] = {
        "laptop": {
            "num_iterations": 24,
            "episodes_per_iteration": 16,
            "num_minibatches": 2,
            "lr": 5e-6,
            "value_lr": 1e-5,
            "warmup_iterations": 4,
            "kl_coef": 0.05,
            "ema_decay": 0.9,  # ours: the paper's .992 would hold 48 steps back at their start
            "micro_batch_rows": 4,
        },
        "gpu": {
            "num_iterations": 100,
            "episodes_per_iteration": 512,  # C.4
            "num_minibatches": 8,  # C.4: of 64
            "lr": LORA_RATE * (paper.PPO_PTX_LR if ptx else paper.PPO_LR)["1.3B"],
            "value_lr": LORA_RATE * paper.VALUE_LR["1.3B"],
            "warmup_iterations": 10,  # C.4
            "kl_coef": 0.05,  # ours: the paper's .02 is of 256k episodes and a 6B reward model
            "ema_decay": 0.992,  # C.4
            "micro_batch_rows": 4,
        },
    }
    mix: dict[str, Any] = {
        "ptx_coef": 1.0,  # ours: both losses are means over their own tokens here, the paper's 27.8 weighs other means
        "ptx_examples_per_episode": {"laptop": 0.5, "gpu": 1.0}[machine],  # ours: C.4's eight are most of its cost
        "ptx_window_tokens": {"laptop": 96, "gpu": 512}[machine],
    }
    without = {"ptx_coef": 0.0, "ptx_examples_per_episode": None, "ptx_window_tokens": None}
    return s7_ppo.Config(
        **ADAM,
        **sizes[machine],
        **(mix if ptx else without),
        inner_epochs=1,  # C.4
        lora=LORA[machine],
        kl_target=None,  # C.4: the coefficient is fixed
        kl_horizon=None,
        clip_ratio=0.2,  # C.4
        clip_value=0.2,  # ours: Stiennon et al. 2020
        gamma=1.0,  # C.4: no discount
        lam=0.95,  # ours: Stiennon et al. 2020
        whiten_rewards=False,  # ours
        temperature=1.0,  # C.4
        sources=sources,
        max_prompt_tokens=MAX_PROMPT_TOKENS[machine],
        max_new_tokens=MAX_NEW_TOKENS[machine],
        missing_eos="subtract",
        missing_eos_penalty=0.0,  # ours: few tokens are too few for most answers; the penalty would teach brevity alone
        dtype=DTYPE[machine],
        snapshot_every=None,
        guard_every=None,  # one reward model is made here: nothing to watch with
        guard_prompts=None,
        guard_patience=None,
        guard_action=None,
        seed=seed,
    )
