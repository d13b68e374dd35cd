"""The reward model's task: K forwards per prompt, all its comparisons in one step; and scores of many rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from instructloop.core.batches import RankedBatch, pair_rows, to_device
from instructloop.core.losses import pairwise_ranking_loss
from instructloop.core.masked import Sum
from instructloop.models.scalar import ScalarModel
from instructloop.models.text import Text, length_sorted_batches
from instructloop.train.loop import Counts, Metrics, Task
from instructloop.train.streams import Stream

Pieces = tuple[RankedBatch, ...]
"""A batch of prompts, already cut into micro-batches: a prompt is never cut."""


@dataclass(frozen=True, slots=True)
class RankedPrompt:
    """A prompt with its completions as ids and every ranking of them; `tiers` hold numbers of `rows`, best first."""

    prompt_id: str
    rows: tuple[list[int], ...]  # prompt and completion, EOS last
    rankings: tuple[tuple[tuple[int, ...], ...], ...]


def ranked_batch(prompts: Sequence[RankedPrompt], text: Text, micro_batch_rows: int | None) -> Pieces:
    """Return prompts as micro-batches of at most `micro_batch_rows` completions (one prompt at least)."""
    ordered = sorted(prompts, key=lambda prompt: -max(map(len, prompt.rows)))
    pieces: list[list[RankedPrompt]] = [[]]
    for prompt in ordered:
        num_rows = sum(len(other.rows) for other in pieces[-1]) + len(prompt.rows)
        if pieces[-1] and micro_batch_rows is not None and num_rows > micro_batch_rows:
            pieces.append([])
        pieces[-1].append(prompt)
    return tuple(_joined(piece, text) for piece in pieces)


def _joined(prompts: Sequence[RankedPrompt], text: Text) -> RankedBatch:
    tokens_BT, attention_BT = text.pad_right([row for prompt in prompts for row in prompt.rows])
    number_B = torch.tensor([number for number, prompt in enumerate(prompts) for _ in prompt.rows])
    rankings: list[list[list[int]]] = []
    first = 0
    for prompt in prompts:
        rankings += [[[first + row for row in tier] for tier in tiers] for tiers in prompt.rankings]
        first += len(prompt.rows)
    return RankedBatch(tokens_BT, attention_BT, number_B, *pair_rows(rankings))


def ranking_task(model: ScalarModel, batches: Stream[Pieces]) -> Task[Pieces]:
    """Return the task of eq. 1: every ranking weighs 1, whatever its number of comparisons."""
    return Task(
        model=model,
        batches=batches,
        counts=lambda pieces: {"rankings": float(sum(piece.weight_N.sum() for piece in pieces))},
        split=lambda pieces: [(piece,) for piece in pieces],
        loss=_loss,
        num_tokens=lambda pieces: sum(int(piece.attention_BT.sum()) for piece in pieces),
    )


def _loss(model: nn.Module, pieces: Pieces, counts: Counts) -> tuple[Tensor, Metrics]:
    """Return the ranking loss; metrics `accuracy` and `margin` are means over comparisons, `score_mean` over rows."""
    assert isinstance(model, ScalarModel)
    piece = to_device(pieces[0], model.bias.device)
    score_B = model.score(piece.tokens_BT, piece.attention_BT, piece.prompt_B)
    loss = pairwise_ranking_loss(score_B, piece.winner_N, piece.loser_N, piece.weight_N)
    score_B = score_B.detach()
    margin_N = score_B[piece.winner_N] - score_B[piece.loser_N]
    num_pairs = float(len(margin_N))
    metrics = {
        "loss/reward": loss.detach(),
        "accuracy": Sum(((margin_N > 0).float() + 0.5 * (margin_N == 0)).sum(), num_pairs),
        "margin": Sum(margin_N.sum(), num_pairs),
        "score_mean": Sum(score_B.sum(), float(len(score_B))),
    }
    return torch.as_tensor(loss.total) / counts["rankings"], metrics


@torch.no_grad()
def score_rows(
    model: ScalarModel, text: Text, rows: Sequence[Sequence[int]], *, batch_tokens: int = 8192
) -> list[float]:
    """Return the score of each row of ids, at its last token; computed in batches of like length."""
    scores = [0.0] * len(rows)
    for index in length_sorted_batches([len(row) for row in rows], max_tokens=batch_tokens):
        tokens_BT, attention_BT = text.pad_right([rows[i] for i in index])
        score_B = model.score(tokens_BT.to(model.bias.device), attention_BT.to(model.bias.device))
        for i, score in zip(index, score_B.tolist(), strict=True):
            scores[i] = score
    return scores
