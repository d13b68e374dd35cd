"""The networks of PPO, loaded from a run's parents: whole, or with adapters on one copy of the weights they share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from instructloop.models.lora import Lora
from instructloop.runs import Run
from instructloop.stages.policies import weight_files

if TYPE_CHECKING:
    from instructloop.models.lm import PreTrainedModel
    from instructloop.models.scalar import ScalarModel
    from instructloop.models.text import Text
    from instructloop.train.device import Dtype
    from instructloop.train.rollouts import Actors


def load_actors(lora: Lora | None, parents: Mapping[str, Run], *, dtype: Dtype, seed: int) -> Actors:
    """Return policy and reference from `init`, reward model and value function from `reward`; all without dropout.

    With LoRA the reference is the frozen base and the policy an adapter on it. Reward model and value function stand
    on the same weights where the reward model's adapter belongs there, else on those of the reward model. The value
    function begins as the reward model's equal: it trains a copy of its adapter, or one of its own.
    """
    from instructloop.models.lm import disable_dropout, load_lm
    from instructloop.models.scalar import ScalarModel
    from instructloop.train.device import to_training_device
    from instructloop.train.rollouts import Actors

    policy, text = load_lm(parents["init"].file("model"))
    if lora is None:
        ref, _ = load_lm(parents["init"].file("model"))
        reward, reward_text = load_reward(parents["reward"])
        value, _ = ScalarModel.load(parents["reward"].file("model"))
    else:
        ref = to_training_device(policy.requires_grad_(False), dtype)  # before others stand on it
        policy = _with_adapter(ref, lora, seed)
        base = ref if belongs_on(parents["reward"], parents["init"]) else None
        reward, reward_text = load_reward(parents["reward"], base)
        if base is None:
            to_training_device(reward.requires_grad_(False), dtype)
        value = reward.sharing(lora, seed=seed)
    text.require_same_ids(reward_text)
    for model in (ref, reward):
        model.requires_grad_(False)
    for model in (policy, ref, reward, value):
        disable_dropout(model)
        to_training_device(model, dtype).eval()
    return Actors(policy, value, ref, reward, text)


def _with_adapter(base: PreTrainedModel, lora: Lora, seed: int) -> PreTrainedModel:
    from instructloop.models.adapters import add_adapter, sharing_weights

    model = sharing_weights(base)
    add_adapter(model, lora, seed=seed)
    return model


def load_reward(run: Run, base: PreTrainedModel | None = None) -> tuple[ScalarModel, Text]:
    """Return the reward model of a run and its Text: its adapter on the weights of `base`, or loaded whole."""
    from instructloop.models.scalar import ScalarModel

    if base is None:
        return ScalarModel.load(run.file("model"))
    return ScalarModel.load_shared(base, run.file("adapter"), run.file("model"))


def belongs_on(reward: Run, init: Run) -> bool:
    """Whether a reward model is an adapter on the very weights of `init`, file by file by hash."""
    if "adapter" not in reward.outputs:
        return False
    made_on = json.loads(reward.file("adapter/instructloop.json").read_text(encoding="utf-8"))
    return made_on["base"] == weight_files(init)


def sharing(parents: Mapping[str, Run]) -> str:
    """Return what the log says of the memory that PPO's networks take with LoRA."""
    reward, init = parents["reward"], parents["init"]
    if belongs_on(reward, init):
        return "policy, reference, value function and reward model stand on one copy of the weights"
    return (
        f"policy and reference stand on one copy of the weights, value function and reward model on another: "
        f"{reward.id} is no adapter on the weights of {init.id}"
    )
