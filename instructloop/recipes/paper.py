"""Every number of the paper, once, with its section; what it does not state is ours and says so."""

from __future__ import annotations

from typing import Any, Literal

from instructloop.stages import s1_prompts, s3_sft, s5_rankings, s6_reward, s7_ppo

Size = Literal["1.3B", "6B", "175B"]

MAX_PROMPT_TOKENS = 1000  # C: prompts over 1k tokens are dropped, completions limited to 1k, context 2k
MAX_COMPLETION_TOKENS = 1000  # C
CONTEXT_TOKENS = 2000  # C
NUM_PROMPTS = {  # Table 6, training split: (labelers', customers')
    "sft": (11_295, 1_430),
    "reward": (6_623, 26_584),
    "ppo": (0, 31_144),
}
NUM_VALID_PROMPTS = {"sft": (1_550, 103), "reward": (3_488, 14_399), "ppo": (0, 16_185)}  # Table 6
NUM_TEST_PROMPTS = 3_196  # Table 9
COMPLETIONS_PER_PROMPT = (4, 9)  # 3.5: K
NUM_LABELERS = 40  # 3.4
NUM_REWARD_FOLDS = 5  # 4.1, E.2; three seeds each
NUM_REWARD_SEEDS = 3  # E.2

ADAM: dict[str, Any] = {
    "adam_betas": (0.9, 0.95),  # C
    "adam_eps": 1e-8,  # ours: the paper names none; GPT-3's
    "weight_decay": 0.0,  # ours
    "max_grad_norm": 1.0,  # ours: GPT-3's
}
SFT_LR: dict[Size, float] = {"1.3B": 9.65e-6, "6B": 9.65e-6, "175B": 5.03e-6}  # C.1
SFT_BATCH_ROWS: dict[Size, int] = {"1.3B": 32, "6B": 32, "175B": 8}  # C.1
PPO_INIT_LR: dict[Size, float] = {"1.3B": 5e-6, "6B": 1.04e-5, "175B": 2.45e-6}  # C.3
PPO_LR: dict[Size, float] = {"1.3B": 3.74e-6, "6B": 2.55e-6, "175B": 2.55e-6}  # Fig. 38: best Likert without mix
PPO_PTX_LR: dict[Size, float] = {"1.3B": 1.18e-5, "6B": 1.18e-5, "175B": 2.55e-6}  # Fig. 38: best Likert with mix
VALUE_LR: dict[Size, float] = {"1.3B": 9e-6, "6B": 9e-6, "175B": 5e-6}  # C.4


def prompts(*, seed: int) -> s1_prompts.Config:
    """Return how prompts are cleaned and split (3.2, A.2)."""
    return s1_prompts.Config(
        prefix_characters=200,  # ours: "a long common prefix"
        max_per_user=200,  # 3.2
        valid_fraction=0.3,  # ours: Table 6 has 16,185 of 47,329 PPO prompts
        test_fraction=0.06,  # ours: Table 9 has 3,196 test prompts
        seed=seed,
    )


def sft(size: Size, *, seed: int) -> s3_sft.Config:
    """Return the SFT baseline: 16 epochs, the one with the best reward-model score is chosen afterwards (C.1)."""
    return s3_sft.Config(
        **ADAM,
        num_epochs=16,  # C.1
        batch_rows=SFT_BATCH_ROWS[size],
        lr=SFT_LR[size],
        dropout=0.2,  # C.1, residual
        text_fraction=0.0,
        text_window_tokens=None,
        learns_prompts=False,  # ours: not stated
        max_prompt_tokens=MAX_PROMPT_TOKENS,
        max_completion_tokens=MAX_COMPLETION_TOKENS,
        dtype="bfloat16",  # ours: not stated
        lora=None,
        keeps_epochs=True,  # C.1: selection by reward-model score
        seed=seed,
    )


def ppo_init(size: Size, *, seed: int) -> s3_sft.Config:
    """Return the model that PPO starts from and is held to: 2 epochs with a tenth of pretraining data (C.3)."""
    return s3_sft.Config(
        **ADAM,
        num_epochs=2,  # C.3
        batch_rows=SFT_BATCH_ROWS[size],
        lr=PPO_INIT_LR[size],
        dropout=0.0,  # ours: not stated
        text_fraction=0.1,  # C.3; counted in sequences: ours
        text_window_tokens=CONTEXT_TOKENS,  # ours: not stated
        learns_prompts=False,
        max_prompt_tokens=MAX_PROMPT_TOKENS,
        max_completion_tokens=MAX_COMPLETION_TOKENS,
        dtype="bfloat16",  # ours: not stated
        lora=None,
        keeps_epochs=False,
        seed=seed,
    )


def rankings(*, seed: int) -> s5_rankings.Config:
    """Return who ranks: most tasks are seen by one labeler (B.5)."""
    return s5_rankings.Config(
        cohort="train",
        purpose="train",
        overlap=1,  # 5.3: most comparisons are labelled by one contractor
        shared_fraction=0.1,  # ours
        shared_overlap=3,  # ours
        seed=seed,
    )


def reward_6b(*, seed: int, fold: int | None = None) -> s6_reward.Config:
    """Return the one reward model, 6B, that all policies learn from; with `fold`, one of the five of E.2."""
    return s6_reward.Config(
        **ADAM,
        num_epochs=1,  # C.2: more overfit
        batch_prompts=64,  # C.2: at most 2,304 comparisons
        lr=9e-6,  # C.2, cosine to a tenth
        max_prompt_tokens=MAX_PROMPT_TOKENS,
        max_completion_tokens=MAX_COMPLETION_TOKENS,
        dtype="bfloat16",  # ours: not stated
        lora=None,
        num_folds=None if fold is None else NUM_REWARD_FOLDS,
        fold=fold,
        seed=seed,
    )


def ppo(size: Size, *, seed: int, ptx: bool) -> s7_ppo.Config:
    """Return PPO, and with `ptx` PPO-ptx: InstructGPT (3.5, C.4)."""
    mix = {
        "ptx_coef": 27.8,  # C.4, gamma of equation 2
        "ptx_examples_per_episode": 8.0,  # C.4: eight times as many pretraining examples as episodes
        "ptx_window_tokens": CONTEXT_TOKENS,  # ours: not stated
    }
    without = {"ptx_coef": 0.0, "ptx_examples_per_episode": None, "ptx_window_tokens": None}
    return s7_ppo.Config(
        **ADAM,
        num_iterations=500,  # C.4: 256k episodes
        episodes_per_iteration=512,  # C.4
        num_minibatches=8,  # C.4: of 64
        inner_epochs=1,  # C.4
        lora=None,
        lr=(PPO_PTX_LR if ptx else PPO_LR)[size],
        value_lr=VALUE_LR[size],
        warmup_iterations=10,  # C.4: from a tenth of the peak
        kl_coef=0.02,  # C.4, beta
        kl_target=None,  # C.4: the coefficient is fixed
        kl_horizon=None,
        clip_ratio=0.2,  # C.4
        clip_value=0.2,  # ours: Stiennon et al. 2020
        gamma=1.0,  # C.4: no discount
        lam=0.95,  # ours: Stiennon et al. 2020
        whiten_rewards=False,  # ours
        ema_decay=0.992,  # C.4; per optimizer step: ours
        temperature=1.0,  # C.4
        sources=("customer",),  # Table 6: PPO has customers' prompts only
        max_prompt_tokens=MAX_PROMPT_TOKENS,
        max_new_tokens=MAX_COMPLETION_TOKENS,
        missing_eos="replace",  # ours: Ziegler et al. 2019
        missing_eos_penalty=1.0,  # ours: Ziegler et al. 2019
        dtype="bfloat16",  # ours: not stated
        snapshot_every=50,  # ours
        guard_every=None,  # ours: the paper watches no reward model but the one it trains against
        guard_prompts=None,
        guard_patience=None,
        guard_action=None,
        seed=seed,
        **(mix if ptx else without),
    )
