"""PPO with adapters on one copy of the weights: on policy at first, each network by itself, small checkpoints."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructloop.models.adapters import add_adapter, sharing_weights
from instructloop.models.lm import disable_dropout
from instructloop.models.lora import Lora
from instructloop.models.masters import MasterState, trained
from instructloop.models.scalar import ScalarModel
from instructloop.runs import Run
from instructloop.train.checkpoint import Checkpoints
from instructloop.train.ema import Ema
from instructloop.train.finite import NotFinite, require_finite_weights
from instructloop.train.frozen import weights_sha256
from instructloop.train.language import adam
from instructloop.train.loop import FitConfig, fit
from instructloop.train.ppo import ppo_task
from instructloop.train.rollouts import Actors
from tests.tiny import tiny_lm
from tests.train.small import SETTINGS, actors, stream_of

LORA = Lora(rank=2, alpha=8.0, targets="all-linear")
ARCHITECTURES = pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma"])


def on_one_base(architecture: str = "llama") -> Actors:
    """Policy, value function, reward model and reference on one base; the reward model has been trained."""
    whole = actors(architecture)
    ref = whole.ref
    policy = sharing_weights(ref.requires_grad_(False))
    add_adapter(policy, LORA, seed=1)
    reward = sharing_weights(whole.reward.requires_grad_(False))
    reward.add_adapter(LORA, seed=2)
    with torch.no_grad():
        for parameter in trained(reward).values():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) * 0.1)
    value = reward.sharing(LORA, seed=4)
    reward.requires_grad_(False)
    return Actors(policy, value, ref, reward, whole.text)


def fitted(found: Actors, run: Run, *, num_iterations: int = 2, state: dict | None = None, **changes):
    """Train policy and value function; return what each rollout said."""
    settings = replace(SETTINGS, num_iterations=num_iterations, **changes)
    heard: list = []
    stream, learners = stream_of(found, settings, heard), found.learners
    optimizer = adam(trained(learners).values(), 1e-2, betas=(0.9, 0.95), weight_decay=0.0)
    config = FitConfig(0, 1.0, log_every=1, checkpoint_every_seconds=0.0)
    fit(ppo_task(stream, learners, settings), optimizer, lambda _: 1.0, config, run, state=state)
    return heard


@ARCHITECTURES
def test_the_first_minibatch_is_on_policy_and_only_policy_and_value_move(architecture: str, new_run):
    found = on_one_base(architecture)
    frozen = [weights_sha256(model) for model in (found.ref, found.reward)]
    before = [weights_sha256(model) for model in (found.policy, found.value)]
    run = new_run()
    heard = fitted(found, run)
    first = run.metrics()[0]
    assert first["policy/ratio"] == pytest.approx(1.0, abs=1e-5)
    assert first["policy/approxkl"] == pytest.approx(0.0, abs=1e-8)
    assert heard[0][2].kl_B.abs().max() < 1e-5  # the reference has no adapter, and the policy's says nothing yet
    assert heard[1][2].kl_B.abs().max() > 1e-4
    assert [weights_sha256(model) for model in (found.ref, found.reward)] == frozen
    assert all(a != b for a, b in zip(before, (weights_sha256(m) for m in (found.policy, found.value)), strict=True))


def test_a_later_rollout_is_sampled_with_the_adapter_and_judged_without_it(new_run):
    found = on_one_base()
    with torch.no_grad():
        for parameter in trained(found.learners).values():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)) * 0.1)
    run = new_run()
    heard = fitted(found, run, num_iterations=1)
    assert run.metrics()[0]["policy/ratio"] == pytest.approx(1.0, abs=1e-5)
    assert heard[0][2].kl_B.abs().min() > 0.01


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_gradient_checkpointing_recomputes_each_network_with_its_own_adapter(architecture: str):
    gradients = []
    for checkpointing in (False, True):
        found = on_one_base(architecture)
        with torch.no_grad():
            for parameter in trained(found.learners).values():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)) * 0.1)
        batch = next(iter(stream_of(found, SETTINGS)))
        learners = found.learners
        if checkpointing:
            for model in (found.policy, found.value.model):
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            learners.train()
        task = ppo_task(stream_of(found, SETTINGS), learners, SETTINGS)
        task.loss(learners, batch, task.counts(batch))[0].backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in trained(learners).items()})
    assert all(gradient.abs().max() > 0 for name, gradient in gradients[0].items() if "lora_B" in name)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-5)


def test_a_checkpoint_holds_what_is_trained_alone_and_going_on_is_bit_for_bit(new_run):
    whole = new_run()
    found = on_one_base()
    ema = Ema(found.policy, 0.9)
    fitted(found, whole, state={"ema": ema})
    halves = new_run(number=2)
    first = on_one_base()
    fitted(first, halves, num_iterations=1, state={"ema": Ema(first.policy, 0.9)})
    step, state = Checkpoints(halves.path / "checkpoints", halves.id).load() or (0, {})
    names = set(trained(first.learners))
    assert step == 2  # half of the four
    assert set(state["model"]) == names
    assert all("lora_" in name or name in ("value.bias", "value.model.score.weight") for name in names)
    assert all("lora_" in name for name in state["ema"])
    assert len(state["optimizer"]["state"]) == len(names)
    second = on_one_base()
    fitted(second, halves, state={"ema": Ema(second.policy, 0.9)})
    for name, parameter in trained(found.learners).items():
        assert torch.equal(trained(second.learners)[name], parameter)


def test_a_checkpoint_of_another_rank_is_refused(tmp_path: Path):
    one, other = tiny_lm()[0], tiny_lm()[0]
    add_adapter(one, LORA, seed=1)
    add_adapter(other, LORA.model_copy(update={"rank": 3}), seed=1)
    with pytest.raises(ValueError, match=r"lora_A.default.weight is \[3, 32\], here it is \[2, 32\]"):
        MasterState(one).load_state_dict(MasterState(other).state_dict())
    with pytest.raises(ValueError, match="other weights than those that are trained"):
        MasterState(one).load_state_dict(tiny_lm()[0].state_dict())


def test_the_average_is_of_the_adapter_and_the_base_is_never_written(new_run):
    found = on_one_base()
    ema = Ema(found.policy, 0.5)
    began = {name: parameter.detach().clone() for name, parameter in trained(found.policy).items()}
    base = weights_sha256(found.ref)
    with torch.no_grad():
        for parameter in trained(found.policy).values():
            parameter.add_(1.0)
    ema.update()
    with ema.applied():
        for name, parameter in trained(found.policy).items():
            torch.testing.assert_close(parameter.detach(), began[name] + 0.5)
        assert weights_sha256(found.ref) == base
    assert all(torch.equal(parameter, began[name] + 1.0) for name, parameter in trained(found.policy).items())


def test_a_weight_of_an_adapter_that_is_not_finite_is_named(new_run):
    found = on_one_base()
    with torch.no_grad():
        found.value.model.base_model.layers[1].mlp.up_proj.lora_A["default"].weight[0, 0] = float("nan")
    with pytest.raises(NotFinite, match=r"value.model.*layers.1.mlp.up_proj.lora_A.default.weight is not finite"):
        require_finite_weights(found.learners, "now")


def test_dropout_of_the_base_is_off_in_every_tree_that_stands_on_it():
    base, text = tiny_lm("gpt2", dropout=0.3)
    disable_dropout(base)
    policy = sharing_weights(base.requires_grad_(False))
    reward = ScalarModel.from_lm(base, text, seed=1)[0]
    for model in (policy, reward.model):
        assert all(module.p == 0 for module in model.modules() if isinstance(module, torch.nn.Dropout))
