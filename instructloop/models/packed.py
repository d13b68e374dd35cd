"""The real tokens of a padded batch in one row, and what of it lies where when rows are attended; no attention itself.

A row that begins like another one of the same prompt may share the beginning: it is then in the packed row once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Int
from torch import Tensor

LIKE_LENGTHS = 0.6
"""A block's shortest row has at least this fraction of its longest: less padding, or fewer and larger products."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where tokens lie among blocks laid end to end: where their row starts, how wide it is, and their column."""

    start_N: Int[Tensor, " N"]
    width_N: Int[Tensor, " N"]
    column_N: Int[Tensor, " N"]

    def lines(self, num_heads: int) -> Tensor:
        """Return the lines of all heads of each token, in blocks where a row has its heads one after the other."""
        head_H = torch.arange(num_heads, device=self.start_N.device)
        first_N1 = (self.start_N * num_heads + self.column_N)[:, None]
        return (first_N1 + self.width_N[:, None] * head_H).flatten()


@dataclass(frozen=True, slots=True)
class Block:
    """R rows of like length: numbers of Q tokens that look and of S that are looked at; a short row repeats its last.

    `distance_RQS` is how far the one stands after the other; R is 1 where it is the same for all rows.
    """

    query_RQ: Int[Tensor, "R Q"]
    key_RS: Int[Tensor, "R S"]
    distance_RQS: Tensor

    def unseen(self, window: int | None) -> Tensor:
        """Return True where a token must not look: at what comes later, or further back than its window."""
        later = self.distance_RQS < 0
        return later if window is None else later | (self.distance_RQS >= window)


@dataclass(frozen=True, slots=True)
class Packing:
    """N real tokens in one row, each with its position in its own row, and the blocks in which they are attended."""

    tokens_1N: Int[Tensor, "1 N"]
    position_1N: Int[Tensor, "1 N"]
    number_BT: Int[Tensor, "B T"]  # in the packed row, of each token that is there; of a shared one only in one row
    blocks: tuple[Block, ...]
    queries: Places  # of all N
    keys: Places  # of all N, in their own rows
    shared: Places  # of tokens in further rows that begin with them
    shared_M: Int[Tensor, " M"]  # their numbers
    padding: Places  # queries that are no token's
    _lines: dict[tuple[str, int], Tensor] = field(default_factory=dict[tuple[str, int], Tensor])

    def lines(self, name: str, num_heads: int) -> Tensor:
        """Return the lines of `queries`, `keys`, `shared` or `padding`; made once for all layers."""
        if (name, num_heads) not in self._lines:
            self._lines[name, num_heads] = getattr(self, name).lines(num_heads)
        return self._lines[name, num_heads]

    def taken(self, name: str, num_heads: int) -> Tensor:
        """Return which of the N x heads lines stands at each line of all blocks, `name` being query_RQ or key_RS."""
        if (name, num_heads) not in self._lines:
            head_H1 = torch.arange(num_heads, device=self.number_BT.device)[:, None]
            token_RXs = [getattr(block, name) for block in self.blocks]
            lines = [(token_RX[:, None] * num_heads + head_H1).flatten() for token_RX in token_RXs]
            self._lines[name, num_heads] = torch.cat(lines)
        return self._lines[name, num_heads]


def positions(attention_BT: Bool[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Return position ids that count real tokens from 0 (exclusive sum), so that left padding moves nothing."""
    attention_BT = attention_BT.long()
    return attention_BT.cumsum(1) - attention_BT


def pack(
    tokens_BT: Int[Tensor, "B T"], attention_BT: Bool[Tensor, "B T"], prompt_B: Int[Tensor, " B"] | None = None
) -> Packing:
    """Return the real tokens of a padded batch in one row; what rows of one prompt have in common only once."""
    position_BT, length_B = positions(attention_BT), attention_BT.sum(1)
    row_B = torch.arange(len(length_B), device=length_B.device)
    shared_B, owner_B = (
        (torch.zeros_like(row_B), row_B) if prompt_B is None else _shared(tokens_BT, attention_BT, prompt_B)
    )
    own_BT = attention_BT & (position_BT >= shared_B[:, None])
    own_B = length_B - shared_B
    first_B = own_B.cumsum(0) - own_B
    blocks = list[Block]()
    query_start_B, query_width_B, key_start_B, key_width_B = (torch.zeros_like(row_B) for _ in range(4))
    query_start = key_start = 0
    for rows in _like_rows(own_B.tolist(), shared_B.tolist()):
        rows_R = torch.tensor(rows, device=row_B.device)
        block = _block(rows_R, own_B, shared_B, first_B, first_B[owner_B])
        (num_rows, width), key_width = block.query_RQ.shape, block.key_RS.shape[1]
        number_R = torch.arange(num_rows, device=row_B.device)
        query_start_B[rows_R], query_width_B[rows_R] = query_start + number_R * width, width
        key_start_B[rows_R], key_width_B[rows_R] = key_start + number_R * key_width, key_width
        query_start, key_start = query_start + num_rows * width, key_start + num_rows * key_width
        blocks.append(block)
    row_N, column_N = _ranges(own_B)
    row_M, column_M = _ranges(shared_B)
    row_P, column_P = _ranges(query_width_B - own_B)
    return Packing(
        tokens_BT[own_BT][None],
        position_BT[own_BT][None],
        own_BT.flatten().cumsum(0).reshape(own_BT.shape) - 1,
        tuple(blocks),
        Places(query_start_B[row_N], query_width_B[row_N], column_N),
        Places(key_start_B[row_N], key_width_B[row_N], column_N + shared_B[row_N]),
        Places(key_start_B[row_M], key_width_B[row_M], column_M),
        first_B[owner_B[row_M]] + column_M,
        Places(query_start_B[row_P], query_width_B[row_P], column_P + own_B[row_P]),
    )


def _block(rows_R: Tensor, own_B: Tensor, shared_B: Tensor, first_B: Tensor, owner_first_B: Tensor) -> Block:
    """Return the block of some rows; a query's position is that of its column after what its row shares."""
    own_R1, shared_R1, first_R1 = own_B[rows_R, None], shared_B[rows_R, None], first_B[rows_R, None]
    length_R1 = own_R1 + shared_R1
    column_Q = torch.arange(int(own_R1.max()), device=rows_R.device)
    column_S = torch.arange(int(length_R1.max()), device=rows_R.device)
    query_RQ = first_R1 + torch.minimum(column_Q, own_R1 - 1)
    position_RS = torch.minimum(column_S, length_R1 - 1)
    key_RS = torch.where(
        position_RS < shared_R1, owner_first_B[rows_R, None] + position_RS, first_R1 + position_RS - shared_R1
    )
    is_shared = bool(shared_R1.any())
    # A query that is no token's would see nothing where its position lies beyond the keys and the window is narrow.
    position_RQ = (column_Q + shared_R1).clamp(max=len(column_S) - 1) if is_shared else column_Q[None]
    return Block(query_RQ, key_RS, position_RQ[:, :, None] - column_S)


def _shared(tokens_BT: Tensor, attention_BT: Tensor, prompt_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many tokens at its start each row has from another one, and from which: the first of its prompt.

    That is what all rows of a prompt have in common, but never a row's last token; the first one has them itself.
    """
    length_B = attention_BT.sum(1)
    row_B = torch.arange(len(length_B), device=length_B.device)
    column_BT = positions(attention_BT)
    left_BT = torch.zeros_like(tokens_BT).scatter_(
        1, torch.where(attention_BT, column_BT, tokens_BT.shape[1] - 1), torch.where(attention_BT, tokens_BT, 0)
    )
    _, prompt_B = prompt_B.unique(return_inverse=True)
    owner_B = torch.full_like(row_B, len(row_B)).scatter_reduce(0, prompt_B, row_B, "amin")[prompt_B]
    equal_B = (left_BT == left_BT[owner_B]).long().cumprod(1).sum(1)
    common_B = torch.minimum(equal_B, length_B - 1)
    common_B = torch.full_like(common_B, tokens_BT.shape[1]).scatter_reduce(0, prompt_B, common_B, "amin")[prompt_B]
    return torch.where(owner_B == row_B, 0, common_B), owner_B


def _like_rows(own: Sequence[int], shared: Sequence[int]) -> list[list[int]]:
    """Return row numbers in groups of like length, those that share apart; rows without a token are in none."""
    groups = list[list[int]]()
    longest = (0, False)
    for row in sorted(range(len(own)), key=lambda row: (shared[row] > 0, -own[row])):
        if own[row] == 0:
            continue
        if longest[1] != (shared[row] > 0) or own[row] < LIKE_LENGTHS * longest[0] or not groups:
            groups.append([])
            longest = own[row], shared[row] > 0
        groups[-1].append(row)
    return groups


def _ranges(count_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return for the numbers 0 ... count - 1 of every row, one row after the other, the row and the number."""
    row_N = torch.arange(len(count_B), device=count_B.device).repeat_interleave(count_B)
    start_B = count_B.cumsum(0) - count_B
    return row_N, torch.arange(len(row_N), device=count_B.device) - start_B[row_N]
