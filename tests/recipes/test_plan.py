"""Costs of the stages by hand, from a configuration and a transformer of round numbers."""

import pytest

from instructloop.core.costs import Machine, Shape, activation_bytes, cache_bytes
from instructloop.recipes import plan, small

SHAPE = Shape(
    parameters=1000,
    embeddings=300,
    layers=2,
    width=10,
    heads=2,
    groups=1,
    head_width=5,
    inner=20,
    vocabulary=30,
)
MODEL = plan.Model(SHAPE, adapter_sides=0, process_bytes=7)
MACHINE = Machine(flops=1e6, copied=1e9, memory=10**9)
WORK = plan.Work(rows=10, prompt_tokens=6, completion_tokens=4, completions_per_row=3)
TOKEN = 2 * 700 + 2 * 10 * 2 * 10  # operations of a token in a row of ten, forward
HEAD = 2 * 30 * 10  # of a predicted one besides


def test_sft_is_three_forwards_an_epoch_and_the_held_out_tenth_before_after_and_each_epoch():
    config = small.sft("laptop", seed=0).model_copy(update={"num_epochs": 2, "dtype": "float32"})
    found = plan.sft(config, MODEL, WORK, MACHINE)
    forward = 10 * (10 * TOKEN + 4 * HEAD)  # rows of 6 + 4 tokens, 4 of them predicted
    assert found.flops == {"training": pytest.approx(2 * 3 * forward), "held-out loss": pytest.approx(0.4 * forward)}
    assert found.seconds == pytest.approx(6.4 * forward / (1e6 * plan.EFFICIENCY))
    rows = config.micro_batch_rows or 0
    longest = config.max_prompt_tokens + config.max_completion_tokens
    assert found.memory == {
        "process": 7,
        "weights": 4000,
        "masters": 0,
        "gradients": 4000,
        "optimizer": 8000,
        "activations": activation_bytes(SHAPE, rows * longest, longest, 4, is_fused=True),
        "logits": 4 * rows * config.max_completion_tokens * 30 * 4,
    }


def test_a_reward_model_reads_a_prompt_once_in_the_fit_and_with_every_completion_afterwards():
    config = small.reward("laptop", seed=0)
    found = plan.reward(config, MODEL, WORK, MACHINE)
    assert found.flops["training"] == pytest.approx(3 * 10 * (6 + 3 * 4) * TOKEN)
    assert found.flops["scores"] == pytest.approx(10 * 3 * (6 + 4) * TOKEN)


def test_ppo_has_four_networks_and_a_moving_average():
    config = small.ppo("laptop", sources=("x",), ptx=True, seed=0).model_copy(update={"dtype": "bfloat16"})
    found = plan.ppo(config, MODEL, WORK, MACHINE)
    learner = 2000 + 4000 + 4000 + 8000  # weights, masters, gradients, moments
    assert found.memory["policy"] == found.memory["value function"] == learner
    assert found.memory["reference"] == found.memory["reward model"] == 2000
    assert found.memory["moving average"] == 4000
    longest = config.max_prompt_tokens + config.max_new_tokens
    rollout = cache_bytes(SHAPE, 16 * longest, 2) + 4 * 16 * 30 * 4
    update = (
        2 * activation_bytes(SHAPE, 4 * longest, longest, 2, is_fused=False) + 4 * 4 * config.max_new_tokens * 30 * 4
    )
    assert sum(found.memory.values()) == 7 + 2 * learner + 8000 + max(update, rollout)


def test_ppo_samples_once_scores_with_three_networks_and_learns_with_two():
    config = small.ppo("laptop", sources=("x",), ptx=False, seed=0)
    found = plan.ppo(config, MODEL, WORK, MACHINE)
    episodes, row = 24 * 16, 6 + config.max_new_tokens
    body = episodes * row * (2 * 700 + 2 * row * 2 * 10)
    head = episodes * config.max_new_tokens * HEAD
    assert found.flops["sampling"] == pytest.approx(body + head)
    assert found.flops["reference, reward, values"] == pytest.approx(3 * body + head)
    assert found.flops["updates"] == pytest.approx(3 * (2 * body + head))
    assert found.flops["pretraining text"] == 0


def test_computing_activations_again_is_a_forward_more_and_less_memory():
    kept = small.sft("laptop", seed=0)
    again = kept.model_copy(update={"gradient_checkpointing": True})
    one, other = (plan.sft(config, MODEL, WORK, MACHINE) for config in (kept, again))
    assert other.flops["training"] == pytest.approx(4 / 3 * one.flops["training"])
    assert other.memory["activations"] < one.memory["activations"]
    assert {**other.memory, "activations": 0} == {**one.memory, "activations": 0}
