"""Decoding of Llama's shape as plain functions over the weights of transformers' modules; rows leave and join.

Keys and values stand in columns that all rows share: whatever row is there, each step writes the next column. A row
that joins puts its prompt into the columns before it; its mask says which columns are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

FAMILIES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
"""What they compute beyond the shape of their modules is in transformers' code alone: others may scale or reorder."""
LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
HEAD_NORMS = {"q_norm", "k_norm"}
MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}
FIXED_ROPES = ("default", "linear", "llama3", "yarn")
"""Rotary positions whose angles do not depend on how long a sequence becomes."""
SPARE_COLUMNS = 64
"""Where prompts wait, columns beyond the longest row: the columns are moved to the front once in as many steps."""
COPIED_BYTES = 2**31
"""Weights up to this size are copied on a CPU, transposed and side by side: products of few rows are faster so."""


def has_lean_shape(model: PreTrainedModel, longest: int) -> bool:
    """Return whether `LeanForward` computes what this model does on rows of up to `longest` tokens."""
    kind = type(model)
    if kind.__name__ not in FAMILIES or not kind.__module__.startswith("transformers.models."):
        return False
    base: Any = model.model
    rope = base.rotary_emb
    if rope.rope_type not in FIXED_ROPES or 2 * len(rope.inv_freq) != base.layers[0].self_attn.head_dim:
        return False
    if _slides(model.config, longest) or any(map(_is_changed, model.modules())):
        return False
    return type(model.lm_head) is nn.Linear and all(_is_lean_layer(layer) for layer in base.layers)


def _slides(config: Any, longest: int) -> bool:
    """Return whether some layer attends to less than all of `longest` tokens."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or ["full_attention" if window is None else "sliding_attention"]
    return set(kinds) != {"full_attention"} and (window is None or window < longest)


def _is_changed(module: nn.Module) -> bool:
    """Return whether somebody changed what a module of this class computes, with hooks or another forward."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _is_lean_layer(layer: Any) -> bool:
    attention, mlp = dict(layer.self_attn.named_children()), dict(layer.mlp.named_children())
    linear = [module for name, module in chain(attention.items(), mlp.items()) if name.endswith("_proj")]
    return (
        set(dict(layer.named_children())) == LAYER
        and set(attention) in (ATTENTION, ATTENTION | HEAD_NORMS)
        and set(mlp) == MLP
        and all(type(module) is nn.Linear for module in linear)
    )


@dataclass(frozen=True, slots=True)
class _Linear:
    """Linear layers of one input, side by side; weights_IO are views unless they were copied."""

    weights_IO: tuple[Tensor, ...]
    biases_O: tuple[Tensor | None, ...]

    @staticmethod
    def of(*modules: nn.Linear, copied: bool) -> _Linear:
        weights: list[Tensor] = [module.weight for module in modules]
        biases: list[Tensor | None] = [module.bias for module in modules]
        if not copied:
            return _Linear(tuple(weight.t() for weight in weights), tuple(biases))
        bias = None if biases[0] is None else torch.cat([bias for bias in biases if bias is not None])
        return _Linear((torch.cat(weights).t().contiguous(),), (bias,))

    def __call__(self, x_NI: Tensor) -> Tensor:
        found = [
            x_NI @ weight_IO if bias_O is None else torch.addmm(bias_O, x_NI, weight_IO)
            for weight_IO, bias_O in zip(self.weights_IO, self.biases_O, strict=True)
        ]
        return found[0] if len(found) == 1 else torch.cat(found, -1)

    def added_to(self, sum_NO: Tensor, x_NI: Tensor) -> Tensor:
        """Return `sum_NO` and the product, in one pass where the layer is one without bias."""
        if any(bias_O is not None for bias_O in self.biases_O):
            return sum_NO + self(x_NI)
        (weight_IO,) = self.weights_IO
        return torch.addmm(sum_NO, x_NI, weight_IO)


@dataclass(frozen=True, slots=True)
class _Norm:
    weight: Tensor
    eps: float

    @staticmethod
    def of(module: Any) -> _Norm:
        return _Norm(module.weight, module.variance_epsilon)

    def __call__(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), None, self.eps) * self.weight


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer's weights; head_norm is of queries and keys, one row of weights a head."""

    before_attention: _Norm
    qkv: _Linear
    head_norm: _Norm | None
    out: _Linear
    before_mlp: _Norm
    gate_up: _Linear
    act: Callable[[Tensor], Tensor]
    down: _Linear

    @staticmethod
    def of(layer: Any, *, copied: bool) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        head_norm = None
        if hasattr(attention, "q_norm"):
            query, key = _Norm.of(attention.q_norm), _Norm.of(attention.k_norm)
            num_heads = [part.out_features // attention.head_dim for part in (attention.q_proj, attention.k_proj)]
            weights = [norm.weight.expand(num, -1) for norm, num in zip((query, key), num_heads, strict=True)]
            head_norm = _Norm(torch.cat(weights), query.eps)
        return _Layer(
            before_attention=_Norm.of(layer.input_layernorm),
            qkv=_Linear.of(attention.q_proj, attention.k_proj, attention.v_proj, copied=copied),
            head_norm=head_norm,
            out=_Linear.of(attention.o_proj, copied=copied),
            before_mlp=_Norm.of(layer.post_attention_layernorm),
            gate_up=_Linear.of(mlp.gate_proj, mlp.up_proj, copied=copied),
            act=mlp.act_fn,
            down=_Linear.of(mlp.down_proj, copied=copied),
        )


class LeanForward:
    """The model with room for the keys and values of `num_slots` rows in `num_columns` columns.

    Rows stand in the first slots without gaps. Letters: A rows, N tokens, H heads of queries and then of keys, D a
    head's width, K columns. On a CPU keys and values are float32: products as small are fast in that on any processor.
    """

    can_join = True

    def __init__(self, model: PreTrainedModel, num_slots: int, num_columns: int):
        base: Any = model.model
        attention, self.device = base.layers[0].self_attn, model.device
        self.head_width: int = attention.head_dim
        self.num_queries: int = attention.q_proj.out_features // self.head_width
        self.num_keys: int = attention.k_proj.out_features // self.head_width
        num_bytes = sum(weight.numel() * weight.element_size() for weight in model.parameters())
        on_cpu = self.device.type == "cpu"
        copied = on_cpu and num_bytes <= COPIED_BYTES
        self.embedding: Tensor = base.embed_tokens.weight
        self.layers = [_Layer.of(layer, copied=copied) for layer in base.layers]
        self.norm, self.head = _Norm.of(base.norm), _Linear.of(model.lm_head, copied=copied)
        scale_H = [attention.scaling] * self.num_queries + [1.0] * self.num_keys  # the scores' scale is in the queries
        self.scale_H1 = torch.tensor(scale_H, device=self.device)[:, None]
        self.turn_KD = _turns(base.rotary_emb, self.embedding, num_columns)
        dtype = torch.float32 if on_cpu else model.dtype
        shape = (len(self.layers), num_slots, self.num_keys, num_columns, self.head_width)
        self.keys, self.values = (torch.zeros(shape, dtype=dtype, device=self.device) for _ in range(2))
        self.mask_AK = torch.full((num_slots, num_columns), -torch.inf, dtype=dtype, device=self.device)
        self.column = 0  # the next to be written
        self.first: list[int] = []  # of each row, the first column of its prompt
        self.position_A = torch.zeros(0, dtype=torch.long, device=self.device)  # of each row's next token

    def join(self, prompts: Sequence[Sequence[int]]) -> Float[Tensor, "A V"]:
        """Append rows and return the logits after each prompt; equal prompts are read once."""
        distinct = {tuple(prompt): place for place, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
        width, num_old, num_rows = max(map(len, prompts)), len(self.first), len(self.first) + len(prompts)
        self.column = max(self.column if self.first else 0, width)
        start, end = self.column - width, self.column
        of_A = torch.tensor([distinct[tuple(prompt)] for prompt in prompts], device=self.device)
        # What stands behind a prompt is never read: attention is causal, and the mask leaves it out afterwards.
        tokens_BK = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in distinct], device=self.device)
        length_B = torch.tensor([len(prompt) for prompt in distinct], device=self.device)
        position_K = torch.arange(width, device=self.device)

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            query, key, value = (
                part.unflatten(0, (len(distinct), width)).transpose(1, 2) for part in (query, key, value)
            )
            self.keys[layer, num_old:num_rows, :, start:end] = key[of_A]
            self.values[layer, num_old:num_rows, :, start:end] = value[of_A]
            grouped = self.num_keys < self.num_queries
            found = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=1.0, enable_gqa=grouped)
            return found.transpose(1, 2).flatten(0, 1)

        x_NE = self._through(tokens_BK.flatten(), position_K.repeat(len(distinct)), attend)
        logits_BV = self._logits(
            x_NE.unflatten(0, (-1, width))[torch.arange(len(distinct), device=self.device), length_B - 1]
        )
        self.mask_AK[num_old:num_rows] = -torch.inf
        self.mask_AK[num_old:num_rows, start:end].masked_fill_(position_K < length_B[of_A, None], 0.0)
        self.first += [start] * len(prompts)
        self.position_A = torch.cat([self.position_A, length_B[of_A]])
        return logits_BV[of_A]

    def step(self, tokens: Sequence[int]) -> Float[Tensor, "A V"]:
        """Return the logits after one more token of each row."""
        if self.column == self.mask_AK.shape[1]:
            self._to_the_front()
        num_rows, first, column = len(self.first), min(self.first), self.column
        self.mask_AK[:num_rows, column] = 0.0
        mask_A11K = self.mask_AK[:num_rows, None, None, first : column + 1]

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            keys, values = self.keys[layer, :num_rows], self.values[layer, :num_rows]
            keys[:, :, column], values[:, :, column] = key, value
            live = slice(first, column + 1)
            return self._attended(query, keys[:, :, live], values[:, :, live], mask_A11K)

        x_AE = self._through(torch.tensor(tokens, device=self.device), self.position_A, attend)
        self.position_A = self.position_A + 1
        self.column += 1
        return self._logits(x_AE)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, in this order; a row either keeps its slot or fills one that is free now."""
        live = slice(min(self.first), self.column)
        for place, row in enumerate(rows):
            if place != row:
                assert row >= len(rows)
                for held in (self.keys, self.values):
                    held[:, place, :, live] = held[:, row, :, live]
                self.mask_AK[place] = self.mask_AK[row]
        self.first = [self.first[row] for row in rows]
        self.position_A = self.position_A[torch.tensor(rows, dtype=torch.long, device=self.device)]

    def _attended(self, query: Tensor, keys: Tensor, values: Tensor, mask_A11K: Tensor) -> Float[Tensor, "A H D"]:
        """Return the values that one query of each row and head attends to."""
        scores = query.unflatten(1, (self.num_keys, -1)) @ keys.transpose(2, 3)
        return (scores.add_(mask_A11K).softmax(-1) @ values).flatten(1, 2)

    def _to_the_front(self) -> None:
        """Move what is read to the first columns."""
        first, num_rows = min(self.first), len(self.first)
        assert first > 0  # no row spans more columns than the longest has tokens
        live = self.column - first
        for held in (self.keys, self.values):
            held[:, :num_rows, :, :live] = held[:, :num_rows, :, first:].clone()
        self.mask_AK[:num_rows, :live] = self.mask_AK[:num_rows, first:].clone()
        self.mask_AK[:num_rows, live:] = -torch.inf
        self.first, self.column = [column - first for column in self.first], live

    def _through(
        self, token_N: Tensor, position_N: Tensor, attend: Callable[[int, Tensor, Tensor, Tensor], Tensor]
    ) -> Float[Tensor, "N E"]:
        """Return the last layer's output; `attend` (layer, queries, keys, values) stores the latter two and attends."""
        num_turned = self.num_queries + self.num_keys
        turn_NHD = self.turn_KD[position_N, None] * self.scale_H1
        x_NE = self.embedding[token_N]
        for number, layer in enumerate(self.layers):
            heads = layer.qkv(layer.before_attention(x_NE)).unflatten(1, (-1, self.head_width))
            turned, value = heads[:, :num_turned], heads[:, num_turned:]
            if layer.head_norm is not None:
                turned = layer.head_norm(turned)
            turned = _turned(turned, turn_NHD).to(self.keys.dtype)
            query, key = turned[:, : self.num_queries], turned[:, self.num_queries :]
            mixed = attend(number, query, key, value.to(self.keys.dtype))
            x_NE = layer.out.added_to(x_NE, mixed.flatten(1).to(x_NE.dtype))
            gate, up = layer.gate_up(layer.before_mlp(x_NE)).chunk(2, 1)
            x_NE = layer.down.added_to(x_NE, layer.act(gate).mul_(up))
        return x_NE

    def _logits(self, x_AE: Tensor) -> Tensor:
        return self.head(self.norm(x_AE)).float()


def _turns(rope: nn.Module, like: Tensor, length: int) -> Tensor:
    """Return the rotation of each position as complex numbers, from the model's own cosines and sines."""
    cos, sin = rope(like, torch.arange(length, device=like.device)[None])
    half = cos.shape[-1] // 2
    return torch.complex(cos[0, :, :half].float(), sin[0, :, :half].float())


def _turned(heads: Tensor, turn: Tensor) -> Tensor:
    """Return heads rotated: dimension i of the first half with i of the second, which then stand side by side.

    Queries and keys are reordered alike, so their products are the same.
    """
    first, second = heads.float().chunk(2, -1)
    return torch.view_as_real(torch.complex(first, second) * turn).flatten(-2)
