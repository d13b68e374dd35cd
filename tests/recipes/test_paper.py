"""The paper's numbers as recipes/paper.py states them, beside its tables."""

import pytest

from instructloop.recipes import paper

SIZES = ("1.3B", "6B", "175B")


def test_the_papers_numbers_are_those_of_its_tables():
    assert [paper.sft(size, seed=0).lr for size in SIZES] == [9.65e-6, 9.65e-6, 5.03e-6]  # C.1
    assert [paper.sft(size, seed=0).batch_rows for size in SIZES] == [32, 32, 8]
    assert [paper.ppo_init(size, seed=0).lr for size in SIZES] == [5e-6, 1.04e-5, 2.45e-6]  # C.3
    assert [paper.ppo(size, seed=0, ptx=True).value_lr for size in SIZES] == [9e-6, 9e-6, 5e-6]  # C.4
    reward = paper.reward_6b(seed=0)
    assert (reward.lr, reward.batch_prompts, reward.num_epochs) == (9e-6, 64, 1)  # C.2


def test_table_6_adds_up():
    assert [sum(paper.NUM_PROMPTS[part]) for part in ("sft", "reward", "ppo")] == [12_725, 33_207, 31_144]
    assert [sum(paper.NUM_VALID_PROMPTS[part]) for part in ("sft", "reward", "ppo")] == [1_653, 17_887, 16_185]


def test_ppo_has_256k_episodes_in_4000_steps_with_512_pretraining_examples_each():
    ppo = paper.ppo("6B", seed=0, ptx=True)
    assert ppo.num_iterations * ppo.episodes_per_iteration == 256_000
    assert ppo.num_iterations * ppo.num_minibatches * ppo.inner_epochs == 4_000
    assert ppo.num_ptx_rows == 512


@pytest.mark.parametrize("size", SIZES)
def test_ppo_without_the_mix_differs_in_the_mix_and_the_rate_only(size: paper.Size):
    with_mix = paper.ppo(size, seed=0, ptx=True).model_dump()
    without = paper.ppo(size, seed=0, ptx=False).model_dump()
    different = {name for name in with_mix if with_mix[name] != without[name]}
    assert different <= {"lr", "ptx_coef", "ptx_examples_per_episode", "ptx_window_tokens"}
    assert without["ptx_coef"] == 0.0
