"""Log-probabilities of tokens from hidden states and the matrix of an LM's head, a few rows at a time."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from instructloop.models.hidden import is_packable

SCALES = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""What configurations call that which is done to logits after the head."""
CHUNK_BYTES = 2**26
"""The float32 logits that exist at a time, and the most that is kept of them for the backward pass."""


def plain_head(model: nn.Module) -> nn.Linear | None:
    """Return the head of an LM whose logits are what that linear layer gives; None where more is done to them."""
    if not isinstance(model, PreTrainedModel) or not is_packable(model):
        return None
    head = model.get_output_embeddings()
    is_scaled = any(getattr(model.config, name, None) for name in SCALES)
    if is_scaled or type(head) is not nn.Linear or head._forward_hooks or head._forward_pre_hooks:
        return None
    return head


def token_logprobs(
    hidden_ND: Float[Tensor, "N D"],
    weight_VD: Float[Tensor, "V D"],
    bias_V: Float[Tensor, " V"] | None,
    token_N: Int[Tensor, " N"],
    *,
    temperature: float,
) -> Float[Tensor, " N"]:
    """Return log softmax((W h + b) / temperature)[token], float32, with a gradient for hidden states, matrix and bias.

    The backward pass computes the logits anew, chunk by chunk, but those of the last chunk, which are kept.
    """
    found: Any = _TokenLogprobs.apply(hidden_ND, weight_VD, bias_V, token_N, temperature)
    return found


def _logprobs(hidden_MD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, temperature: float) -> Float[Tensor, "M V"]:
    logits_MV = F.linear(hidden_MD, weight_VD, bias_V)
    logits_MV = logits_MV.float() if temperature == 1 else logits_MV.float() / temperature
    return logits_MV.log_softmax(-1)


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, token_N: Tensor, temperature: float
    ) -> Tensor:
        num_rows = max(1, CHUNK_BYTES // (4 * len(weight_VD)))
        parts, last_MV = list[Tensor](), None
        for hidden_MD, token_M in zip(hidden_ND.split(num_rows), token_N.split(num_rows), strict=True):
            last_MV = _logprobs(hidden_MD, weight_VD, bias_V, temperature)
            parts.append(last_MV.gather(1, token_M[:, None])[:, 0])
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, token_N, last_MV)
        ctx.num_rows, ctx.temperature = num_rows, temperature
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """d log p(token) / d logits = (onehot(token) - p) / temperature, times what comes from above."""
        hidden_ND, weight_VD, bias_V, token_N, last_MV = ctx.saved_tensors
        gradient_N = gradients[0].float() / ctx.temperature
        pieces = [tensor.split(ctx.num_rows) for tensor in (hidden_ND, token_N, gradient_N)]
        parts, weight, bias = list[Tensor](), None, None
        for number, (hidden_MD, token_M, gradient_M) in enumerate(zip(*pieces, strict=True)):
            is_last = number == len(pieces[0]) - 1
            logprobs_MV = last_MV if is_last else _logprobs(hidden_MD, weight_VD, bias_V, ctx.temperature)
            logits_MV = logprobs_MV.exp().mul_(-gradient_M[:, None])
            logits_MV.scatter_add_(1, token_M[:, None], gradient_M[:, None])
            if bias_V is not None:
                bias = _plus(bias, logits_MV.sum(0).to(bias_V.dtype))
            logits_MV = logits_MV.to(hidden_MD.dtype)
            parts.append(logits_MV @ weight_VD)
            if ctx.needs_input_grad[1]:
                weight = _plus(weight, logits_MV.T @ hidden_MD)
        return torch.cat(parts), weight, bias, None, None


def _plus(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total.add_(part)
