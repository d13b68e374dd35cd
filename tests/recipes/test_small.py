"""The small recipes: the paper's numbers where they apply, and the real recipe's are these."""

from instructloop.recipes import paper, real, small


def test_the_real_recipe_takes_its_numbers_from_here():
    steps = {step.name: step.config for step in (*real._supervised(3), *real._reinforced(3))}
    assert steps == {
        "sft": small.sft("laptop", seed=3),
        "reward": small.reward("laptop", seed=3),
        "ppo_ptx": small.ppo("laptop", sources=real.SOURCES, ptx=True, seed=3),
    }


def test_on_a_gpu_the_paper_s_batches_and_its_rates_times_what_an_adapter_wants():
    sft, reward = small.sft("gpu", seed=0), small.reward("gpu", seed=0)
    ppo = small.ppo("gpu", sources=("x",), ptx=True, seed=0)
    of_paper = paper.ppo("1.3B", seed=0, ptx=True)
    assert (ppo.episodes_per_iteration, ppo.num_minibatches) == (512, 8)  # C.4
    assert ppo.num_iterations >= 100
    for name in ("clip_ratio", "ema_decay", "temperature", "inner_epochs", "warmup_iterations", "gamma", "adam_betas"):
        assert getattr(ppo, name) == getattr(of_paper, name), name
    assert (ppo.lr, ppo.value_lr) == (10 * of_paper.lr, 10 * of_paper.value_lr)
    assert (sft.lr, sft.batch_rows) == (10 * 9.65e-6, 32)  # C.1
    assert (reward.lr, reward.batch_prompts, reward.num_epochs) == (10 * 9e-6, 64, 1)  # C.2
    for config in (sft, reward, ppo):
        assert config.dtype == "bfloat16"
        assert config.lora is not None
        assert config.lora.rank == 16


def test_without_the_mix_ppo_differs_in_the_mix_and_the_rate_alone():
    for machine in small.MACHINES:
        mixed, plain = (small.ppo(machine, sources=("x",), ptx=ptx, seed=0).model_dump() for ptx in (True, False))
        different = {name for name in mixed if mixed[name] != plain[name]}
        assert different <= {"lr", "ptx_coef", "ptx_examples_per_episode", "ptx_window_tokens"}
