"""What the stages of a recipe would cost with a model: memory by part, floating-point operations, time."""

from __future__ import annotations

from dataclasses import dataclass, field

from instructloop.core import costs
from instructloop.core.costs import Machine, Sampling, Shape, Training
from instructloop.models.attention import FUSED_BYTES
from instructloop.models.decode import CACHE_BYTES, MAX_ROWS
from instructloop.models.head import CHUNK_BYTES
from instructloop.stages import s3_sft, s6_reward, s7_ppo

EFFICIENCY = 0.65
"""Share of the rate of plain matrix products that a whole training step reaches; docs/log.md has what was measured."""


@dataclass(frozen=True, slots=True)
class Work:
    """How many rows a stage reads, and how many tokens their prompts and completions have on average."""

    rows: int
    prompt_tokens: float
    completion_tokens: float
    completions_per_row: float = 1.0

    @property
    def row_tokens(self) -> float:
        """Tokens of a prompt with one completion."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Cost:
    """What one stage costs: `memory` stands at the same time, `flops` and `seconds` are of its parts."""

    name: str
    memory: dict[str, int]
    flops: dict[str, float] = field(default_factory=dict[str, float])
    seconds: float = 0.0

    @property
    def peak_bytes(self) -> int:
        """All of its memory."""
        return sum(self.memory.values())


@dataclass(frozen=True, slots=True)
class Model:
    """The model that is planned for; `adapter_sides` are those of the layers that get the recipe's adapter."""

    shape: Shape
    adapter_sides: int
    process_bytes: int  # Python, torch and transformers

    def training(self, config: s3_sft.Config | s6_reward.Config | s7_ppo.Config) -> Training:
        """Return how a network of it is trained: whole, or by an adapter."""
        itemsize = 4 if config.dtype == "float32" else 2
        if config.lora is None:
            return Training(itemsize, self.shape.parameters, False, config.gradient_checkpointing)
        trainable = costs.adapter_parameters(self.adapter_sides, config.lora.rank)
        return Training(itemsize, trainable, True, config.gradient_checkpointing)


def sft(config: s3_sft.Config, model: Model, work: Work, machine: Machine) -> Cost:
    """Return the cost of SFT, the loss on a tenth of the rows before and after among it."""
    how = model.training(config)
    longest = config.max_prompt_tokens + config.max_completion_tokens
    rows = config.micro_batch_rows or config.batch_rows
    memory = _trained(model, how) | {"activations": _activations(model.shape, rows * longest, longest, how, machine)}
    memory["logits"] = _logits(model.shape, rows * config.max_completion_tokens)
    tokens, predicted = work.rows * work.row_tokens, work.rows * work.completion_tokens
    forward = costs.forward_flops(model.shape, tokens, predicted, work.row_tokens)
    flops = {
        "training": config.num_epochs * how.passes * forward,
        "held-out loss": (2 + config.num_epochs) * 0.1 * forward,
    }
    return _cost("sft", memory, flops, machine)


def reward(config: s6_reward.Config, model: Model, work: Work, machine: Machine) -> Cost:
    """Return the cost of a reward model: the fit, in which a prompt is read once for all its completions, and scores.

    The scores of all completions are those after the fit, each with its prompt.
    """
    shape, how = model.shape, model.training(config)
    per_row = work.completions_per_row
    rows = config.micro_batch_rows or round(config.batch_prompts * per_row)
    longest = config.max_prompt_tokens + config.max_completion_tokens
    num_tokens = round(rows * (config.max_prompt_tokens / per_row + config.max_completion_tokens))
    activations = _activations(shape, num_tokens, longest, how, machine)
    tokens = work.rows * (work.prompt_tokens + per_row * work.completion_tokens)
    step = how.passes * costs.forward_flops(shape, tokens, 0, work.row_tokens)
    scores = costs.forward_flops(shape, work.rows * per_row * work.row_tokens, 0, work.row_tokens)
    memory = _trained(model, how) | {"activations": activations}
    return _cost("reward", memory, {"training": config.num_epochs * step, "scores": scores}, machine)


def ppo(config: s7_ppo.Config, model: Model, work: Work, machine: Machine) -> Cost:
    """Return the cost of PPO; every completion is taken to be as long as it may be."""
    shape, how = model.shape, model.training(config)
    longest = config.max_prompt_tokens + config.max_new_tokens
    micro = config.micro_batch_rows or config.episodes_per_iteration // config.num_minibatches
    at_once = min(
        CACHE_BYTES // costs.cache_bytes(shape, longest, how.itemsize), MAX_ROWS, config.episodes_per_iteration
    )
    episodes = config.num_iterations * config.episodes_per_iteration
    row_tokens = work.prompt_tokens + config.max_new_tokens
    tokens, sampled = episodes * row_tokens, episodes * config.max_new_tokens
    text_rows = config.num_iterations * config.num_minibatches * config.inner_epochs * config.num_ptx_rows
    window = config.ptx_window_tokens or 0
    forward = costs.forward_flops(shape, tokens, sampled, row_tokens)
    bodies = costs.forward_flops(shape, tokens, 0, row_tokens)
    flops = {
        "sampling": forward,
        "reference, reward, values": forward + 2 * bodies,
        "updates": config.inner_epochs * how.passes * (forward + bodies),
        "pretraining text": how.passes * costs.forward_flops(shape, text_rows * window, text_rows * window, window),
    }
    cost = _cost("ppo", _ppo_memory(config, model, (longest, micro, at_once), machine), flops, machine)
    rollout = Sampling(config.episodes_per_iteration, work.prompt_tokens, config.max_new_tokens, at_once)
    sampling = costs.sampling_seconds(shape, rollout, how.itemsize, machine, EFFICIENCY) * config.num_iterations
    rest = sum(flops.values()) - flops["sampling"]
    return Cost("ppo", cost.memory, flops, sampling + rest / (machine.flops * EFFICIENCY))


def precision(config: s3_sft.Config | s6_reward.Config | s7_ppo.Config) -> tuple[str, int | None]:
    """Return a configuration's dtype and the rank of its adapter."""
    return config.dtype, None if config.lora is None else config.lora.rank


def _ppo_memory(config: s7_ppo.Config, model: Model, sizes: tuple[int, int, int], machine: Machine) -> dict[str, int]:
    """Return the memory of PPO's four networks; an adapter's reference and reward model stand on the same weights."""
    shape, how, (longest, micro, at_once) = model.shape, model.training(config), sizes
    learner = costs.network_bytes(shape, how)
    frozen = 0 if how.is_adapter else shape.parameters * how.itemsize
    weights = shape.parameters * how.itemsize
    memory = {"process": model.process_bytes, "policy": sum(learner.values())}
    memory["value function"] = sum(learner.values()) - (weights if how.is_adapter else 0)
    memory |= {"reference": frozen, "reward model": frozen, "moving average": how.trainable * costs.FLOAT32}
    tokens = max(micro * longest, micro * (config.ptx_window_tokens or 0))
    update = 2 * _activations(shape, tokens, longest, how, machine) + _logits(shape, micro * config.max_new_tokens)
    cache = costs.cache_bytes(shape, at_once * longest, how.itemsize)
    rollout = cache + 4 * at_once * shape.vocabulary * costs.FLOAT32 + (weights if how.is_adapter else 0)
    return memory | ({"updates' activations": update} if update > rollout else {"rollout's cache and logits": rollout})


def _trained(model: Model, how: Training) -> dict[str, int]:
    return {"process": model.process_bytes, **costs.network_bytes(model.shape, how)}


def _activations(shape: Shape, num_tokens: int, longest: int, how: Training, machine: Machine) -> int:
    is_fused = machine.is_gpu or longest * how.itemsize >= FUSED_BYTES
    kept = costs.activation_bytes(shape, num_tokens, longest, how.itemsize, is_fused=is_fused)
    return costs.recomputed_bytes(shape, num_tokens, how.itemsize, kept) if how.recomputes else kept


def _logits(shape: Shape, num_predicted: int) -> int:
    """Return the memory of logits: in the backward pass of a chunk four tensors of them stand at the same time."""
    return 4 * min(CHUNK_BYTES, num_predicted * shape.vocabulary * costs.FLOAT32)


def _cost(name: str, memory: dict[str, int], flops: dict[str, float], machine: Machine) -> Cost:
    return Cost(name, memory, flops, sum(flops.values()) / (machine.flops * EFFICIENCY))
