"""The language-modelling task: what pretraining from text and learning from demonstrations share, and held-out loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from instructloop.console import Track
from instructloop.core.batches import LMBatch, to_device
from instructloop.core.losses import lm_loss
from instructloop.core.masked import Sum
from instructloop.models.lm import completion_logprobs
from instructloop.models.masters import master
from instructloop.runs import Run
from instructloop.train.loop import Counts, FitConfig, Metrics, Task, fit
from instructloop.train.muon import MuonAdam
from instructloop.train.streams import Stream, TextOnly, Windows, derived_seed, permutation
from instructloop.train.trim import micro_batches

Parts = tuple[LMBatch, ...]


def lm_task(model: nn.Module, batches: Stream[Parts], *, micro_batch_rows: int | None) -> Task[Parts]:
    """Return the task of predicting every target token of every part of a batch, each token weighing the same."""

    def loss(model: nn.Module, parts: Parts, counts: Counts) -> tuple[Tensor, Metrics]:
        total = sum((batch_loss(model, part) for part in parts), Sum(0.0, 0.0))
        return torch.as_tensor(total.total) / counts["tokens"], {"loss/lm": total.detach()}

    return Task(
        model=model,
        batches=batches,
        counts=lambda parts: {"tokens": float(sum(part.mask_BC.sum() for part in parts))},
        split=lambda parts: [(piece,) for part in parts for piece in micro_batches(part, micro_batch_rows)],
        loss=loss,
        num_tokens=lambda parts: sum(int(part.attention_BT.sum()) for part in parts),
    )


def batch_loss(model: nn.Module, batch: LMBatch) -> Sum:
    """Return the summed negative log-likelihood of a batch's target tokens, in nats, wherever the batch lies."""
    batch = to_device(batch, next(model.parameters()).device)
    logprobs_BC = completion_logprobs(
        model, batch.tokens_BT, batch.attention_BT, batch.mask_BC.shape[1], temperature=1.0
    )
    return lm_loss(logprobs_BC, batch.mask_BC)


@torch.no_grad()
def held_out_loss(model: nn.Module, batches: Iterable[LMBatch]) -> float:
    """Return the mean negative log-likelihood per target token, in nats, with dropout off; the mode is put back."""
    was_training = model.training
    model.eval()
    total = sum((batch_loss(model, batch) for batch in batches), Sum(0.0, 0.0))
    model.train(was_training)
    return float(total)


@dataclass(frozen=True, slots=True)
class PretrainConfig:
    """How a base model is made from text; nothing here is from the paper, which starts from GPT-3."""

    context: int  # tokens of a window
    batch_rows: int
    num_steps: int
    lr: float  # of Adam: embeddings and norms
    matrix_lr: float  # of Muon: the matrices of attention and MLP
    warmup_steps: int
    decay_from: float  # share of the steps after which the rate falls in a straight line to 0
    adam_betas: tuple[float, float]
    weight_decay: float
    max_grad_norm: float | None
    seed: int
    micro_batch_rows: int | None = None
    log_every: int = 50

    def rate_factor(self, step: int) -> float:
        """Return the factor of both rates at a step: up over the warm-up, level, then down to 0."""
        up = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        fall_steps = max(self.num_steps * (1.0 - self.decay_from), 1.0)
        return up * min(1.0, (self.num_steps - step) / fall_steps)


def pretrain(model: nn.Module, tokens_N: Tensor, config: PretrainConfig, run: Run, *, track: Track | None) -> int:
    """Train a language model from text packed into `tokens_N` (documents, each closed by EOS); return the steps."""
    model.train()
    stream = TextOnly(
        Windows(tokens_N, config.context, seed=config.seed), batch_rows=config.batch_rows, num_steps=config.num_steps
    )
    optimizer = MuonAdam(
        model,
        matrix_lr=config.matrix_lr,
        lr=config.lr,
        betas=config.adam_betas,
        weight_decay=config.weight_decay,
    )
    steps = fit(
        lm_task(model, stream, micro_batch_rows=config.micro_batch_rows),
        optimizer,
        config.rate_factor,
        FitConfig(seed=config.seed, max_grad_norm=config.max_grad_norm, log_every=config.log_every),
        run,
        track=track,
    )
    model.eval()
    return steps


def adam(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    lr: float,
    *,
    betas: tuple[float, float],
    eps: float = 1e-8,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """Return Adam over parameters, or groups of them; with decoupled weight decay, in one fused kernel.

    It moves the masters of weights that have them, and leaves out what is frozen.
    """
    given = list(parameters)
    groups = [one for one in given if isinstance(one, dict)] or [{"params": given}]
    groups = [{**group, "params": _trained(group["params"])} for group in groups]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)


def _trained(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [master(parameter) for parameter in parameters if parameter.requires_grad]


def pack(documents: Iterable[str], encode: Callable[[str], Sequence[int]]) -> Tensor:
    """Return all documents as one row of ids; `encode` closes each with EOS."""
    ids: list[int] = []
    for document in documents:
        ids.extend(encode(document))
    return torch.tensor(ids, dtype=torch.int32)


def windows_of(
    documents: Sequence[str], encode: Callable[[str], Sequence[int]], *, length: int, num_windows: int, seed: int
) -> Windows:
    """Return windows over as many documents, drawn by seed, as `num_windows` windows take; over all if that is less."""
    needed = (num_windows + 2) * (length - 1) + 1
    ids: list[int] = []
    for index in permutation(len(documents), derived_seed(seed, "documents")):
        ids.extend(encode(documents[index]))
        if len(ids) >= needed:
            break
    return Windows(torch.tensor(ids, dtype=torch.int32), length, seed=seed)
