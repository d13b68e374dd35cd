"""Cutting a batch into micro-batches of like length without the padding they do not need; no number changes."""

from __future__ import annotations

from dataclasses import fields
from typing import TypeVar

import torch
from torch import Tensor

from instructloop.core.batches import LMBatch, Rollout

Padded = TypeVar("Padded", LMBatch, Rollout)


def micro_batches(batch: Padded, micro_batch_rows: int | None) -> list[Padded]:
    """Return the rows in groups of at most `micro_batch_rows`, longest first, each trimmed; None: one group."""
    num_rows = len(batch.tokens_BT)
    if micro_batch_rows is None or micro_batch_rows >= num_rows:
        return [trimmed(batch)]
    order = batch.attention_BT.sum(1).argsort(descending=True, stable=True)
    return [trimmed(batch.rows(index)) for index in order.split(micro_batch_rows)]


def trimmed(batch: Padded) -> Padded:
    """Return the batch without the columns that are padding in every row: left of the prompts, right of the ends."""
    start, end = _span(batch.attention_BT)
    prompt_columns = batch.tokens_BT.shape[1] - batch.mask_BC.shape[1]
    assert start < prompt_columns, "a row without a prompt"
    width = end - prompt_columns
    if start == 0 and end == batch.tokens_BT.shape[1]:
        return batch
    cut = {
        field.name: getattr(batch, field.name)[:, start:end]
        if field.name.endswith("_BT")
        else getattr(batch, field.name)[:, :width]
        for field in fields(batch)
    }
    return type(batch)(**cut)


def _span(attention_BT: Tensor) -> tuple[int, int]:
    """Return the first column that any row attends to, and the one after the last."""
    columns = torch.nonzero(attention_BT.any(0)).flatten()
    return int(columns[0]), int(columns[-1]) + 1
