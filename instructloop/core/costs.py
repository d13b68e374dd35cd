"""What training costs by arithmetic: memory by part in bytes, floating-point operations, seconds; no measuring."""

from __future__ import annotations

import math
from dataclasses import dataclass

FLOAT32 = 4  # bytes
ADAM_BYTES = 8  # two moments in float32


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers of a transformer that its costs follow from."""

    parameters: int  # all, a tied one once
    embeddings: int  # of these: the input embedding, and the head where it is not tied to it
    layers: int
    width: int  # of the residual stream
    heads: int
    groups: int  # heads of keys and values
    head_width: int
    inner: int  # width inside the MLP
    vocabulary: int

    @property
    def matrices(self) -> int:
        """Parameters that every token is multiplied with; the embedding is looked up."""
        return self.parameters - self.embeddings

    @property
    def head(self) -> int:
        """Parameters that a predicted token is multiplied with besides."""
        return self.vocabulary * self.width


@dataclass(frozen=True, slots=True)
class Training:
    """How a network is trained: bytes of a weight and an activation, and what is trained of it."""

    itemsize: int  # 4 in float32, 2 in bfloat16
    trainable: int  # parameters
    is_adapter: bool  # the trainable ones stand beside the weights, in float32
    recomputes: bool = False  # activations are computed again in the backward pass

    @property
    def passes(self) -> int:
        """Forwards' worth of a step: a whole network three, an adapter two, since what is frozen needs no gradient."""
        return (2 if self.is_adapter else 3) + self.recomputes


def network_bytes(shape: Shape, how: Training) -> dict[str, int]:
    """Return the memory of a network that is trained, by part.

    In bfloat16 what is trained has a float32 master. Gradients are float32, Adam's moments too.
    """
    beside = how.trainable * FLOAT32 if how.is_adapter else 0
    has_masters = how.itemsize < FLOAT32 and not how.is_adapter
    return {
        "weights": shape.parameters * how.itemsize + beside,
        "masters": how.trainable * FLOAT32 if has_masters else 0,
        "gradients": how.trainable * FLOAT32,
        "optimizer": how.trainable * ADAM_BYTES,
    }


def activation_bytes(shape: Shape, num_tokens: int, row_tokens: int, itemsize: int, *, is_fused: bool) -> int:
    """Return what one forward keeps for its backward, of `num_tokens` in rows of `row_tokens`, without the head.

    A token keeps in a layer: the residual stream, its norm and the norm times its weight, before attention and before
    the MLP (6 D; norms see float32, so 8 D in bfloat16); queries and what attention gathers (2 H E), keys and values
    (2 G E); gate, its activation, the other half and their product (4 F); a probability for each head and token of its
    row (H T), or where attention is fused in their place keys and values once more for every head (2 H E).
    """
    of_heads = shape.heads * shape.head_width
    stream = (6 if itemsize == FLOAT32 else 8) * shape.width
    attention = 2 * of_heads + 2 * shape.groups * shape.head_width
    attention += 2 * of_heads if is_fused else shape.heads * row_tokens
    return shape.layers * num_tokens * (stream + attention + 4 * shape.inner) * itemsize


def cache_bytes(shape: Shape, num_tokens: int, itemsize: int) -> int:
    """Return the memory of the keys and values of so many tokens."""
    return 2 * shape.layers * shape.groups * shape.head_width * num_tokens * itemsize


def forward_flops(shape: Shape, num_tokens: float, num_predicted: float, row_tokens: float) -> float:
    """Return 2 N per token, 2 V D per predicted one, and 2 T H E per token and layer for causal attention.

    A token looks at T / 2 others on average, in two products of 2 H E each.
    """
    attention = 2 * row_tokens * shape.layers * shape.heads * shape.head_width
    return num_tokens * (2 * shape.matrices + attention) + num_predicted * 2 * shape.head


def recomputed_bytes(shape: Shape, num_tokens: int, itemsize: int, kept: int) -> int:
    """Return what is kept of `kept` where activations are computed again: what enters each layer, and one layer's."""
    return shape.layers * num_tokens * shape.width * itemsize + kept // shape.layers


def adapter_parameters(sides: int, rank: int) -> int:
    """Return what LoRA trains: rank rows of each layer's inputs and columns of its outputs, `sides` in all."""
    return sides * rank


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine does: operations of matrix products and bytes copied a second, bytes of memory."""

    flops: float
    copied: float
    memory: int
    is_gpu: bool = False


@dataclass(frozen=True, slots=True)
class Sampling:
    """One rollout: so many completions, the tokens of their prompts, and the most that each may have."""

    num_rows: int
    prompt_tokens: float
    new_tokens: int
    rows_at_once: int


def sampling_seconds(shape: Shape, what: Sampling, itemsize: int, machine: Machine, efficiency: float) -> float:
    """Return the time to sample: prompts as a forward, then step by step what takes longer, products or reading.

    A step multiplies a token of every row with all weights, and reads weights and the keys and values so far.
    """
    per_token = forward_flops(shape, 1, 1, what.prompt_tokens + what.new_tokens / 2)
    prompts = forward_flops(shape, what.num_rows * what.prompt_tokens, what.num_rows, what.prompt_tokens)
    seconds = prompts / (machine.flops * efficiency)
    rows = min(what.rows_at_once, what.num_rows)
    held = cache_bytes(shape, round(rows * (what.prompt_tokens + what.new_tokens / 2)), itemsize)
    read = ((shape.matrices + shape.head) * itemsize + held) / machine.copied
    step = max(rows * per_token / (machine.flops * efficiency), read)
    return seconds + math.ceil(what.num_rows / rows) * what.new_tokens * step
