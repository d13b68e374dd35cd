"""Where batches come from: epochs over a data set, packed windows of text; fixed order by seed, resumable, no loss."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from instructloop.core.batches import LMBatch

Batch = TypeVar("Batch")
BatchOut = TypeVar("BatchOut", covariant=True)


class Stream(Protocol[BatchOut]):
    """A sequence of batches that a checkpoint can hold; iterating goes on from the state it has."""

    @property
    def is_resumable(self) -> bool:
        """Whether the state after the batch given last is one to resume from."""
        ...

    @property
    def place(self) -> str:
        """What the batch given last is made of, in words: how an error says where to look."""
        ...

    def __len__(self) -> int:
        """Return how many batches there are in all, those already given among them."""
        ...

    def __iter__(self) -> Iterator[BatchOut]: ...
    def state_dict(self) -> Mapping[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any], /) -> None: ...


def derived_seed(*parts: int | str) -> int:
    """Return a seed below 2^63 that depends on every part: equal parts, equal seed; different ones, unrelated seeds."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def permutation(number: int, seed: int) -> list[int]:
    """Return 0 … number - 1 in the random order of a seed."""
    return torch.randperm(number, generator=torch.Generator().manual_seed(seed)).tolist()


class Epochs(Generic[Batch]):
    """Passes over a data set, each in its own random order; the last batch of an epoch may be smaller.

    `make` turns row numbers into a batch. The order is a function of seed and epoch, so the state is one number.
    """

    is_resumable = True

    def __init__(
        self, num_rows: int, make: Callable[[list[int]], Batch], *, batch_rows: int, num_epochs: int, seed: int
    ):
        if num_rows < 1 or batch_rows < 1 or num_epochs < 1:
            raise ValueError(f"{num_rows} rows, {batch_rows} a batch, {num_epochs} epochs: each must be at least 1")
        self.num_rows = num_rows
        self.make = make
        self.batch_rows = batch_rows
        self.num_epochs = num_epochs
        self.seed = seed
        self.position = 0

    @property
    def batches_per_epoch(self) -> int:
        """Optimizer steps of one pass."""
        return -(-self.num_rows // self.batch_rows)

    @property
    def place(self) -> str:
        """Return the rows of the batch given last."""
        epoch, number = divmod(self.position - 1, self.batches_per_epoch)
        rows = self._rows(epoch, number)
        return f"batch {number + 1} of epoch {epoch + 1}: rows {', '.join(map(str, rows))} of the data"

    def _rows(self, epoch: int, number: int) -> list[int]:
        order = permutation(self.num_rows, derived_seed(self.seed, "epoch", epoch))
        return order[number * self.batch_rows :][: self.batch_rows]

    def __len__(self) -> int:
        return self.batches_per_epoch * self.num_epochs

    def __iter__(self) -> Iterator[Batch]:
        while self.position < len(self):
            epoch, number = divmod(self.position, self.batches_per_epoch)
            order = permutation(self.num_rows, derived_seed(self.seed, "epoch", epoch))
            for start in range(number * self.batch_rows, self.num_rows, self.batch_rows):
                self.position += 1
                yield self.make(order[start : start + self.batch_rows])

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.position = state["position"]


class Windows:
    """Windows of `length` tokens over one long text, without end, each pass in its own random order.

    Neighbouring windows share one token, so that every token is a target once a pass; a pass begins at a random offset,
    so that windows are cut elsewhere each time. What is left over at either end is less than two windows.
    """

    def __init__(self, tokens_N: Tensor, length: int, *, seed: int):
        self.num_windows = (len(tokens_N) - 1) // (length - 1) - 1
        if length < 2 or self.num_windows < 1:
            raise ValueError(f"{len(tokens_N)} tokens of text are too few for windows of {length}: it takes two")
        self.tokens_N = tokens_N
        self.length = length
        self.seed = seed
        self.position = 0
        self._order: tuple[int, list[int]] = (-1, [])

    def take(self, num_rows: int) -> LMBatch:
        """Return the next windows as pretraining text: P = 1, every later token a target."""
        rows = [self._next() for _ in range(num_rows)]
        tokens_BT = torch.stack(rows).long()
        ones = torch.ones_like(tokens_BT, dtype=torch.bool)
        return LMBatch(tokens_BT, ones, ones[:, 1:])

    def place(self, num_rows: int) -> str:
        """Return which windows the last `num_rows` were, counted through all passes."""
        return f"windows {self.position - num_rows + 1} to {self.position} of the text"

    def _next(self) -> Tensor:
        epoch, number = divmod(self.position, self.num_windows)
        if self._order[0] != epoch:
            self._order = (epoch, permutation(self.num_windows, derived_seed(self.seed, "windows", epoch)))
        offset = derived_seed(self.seed, "offset", epoch) % (self.length - 1)
        start = offset + self._order[1][number] * (self.length - 1)
        self.position += 1
        return self.tokens_N[start : start + self.length]

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.position = state["position"]


class TextOnly:
    """Pretraining: every batch is windows of text."""

    is_resumable = True

    def __init__(self, windows: Windows, *, batch_rows: int, num_steps: int):
        self.windows = windows
        self.batch_rows = batch_rows
        self.num_steps = num_steps
        self.step = 0

    def __len__(self) -> int:
        return self.num_steps

    @property
    def place(self) -> str:
        """Return the windows of the batch given last."""
        return self.windows.place(self.batch_rows)

    def __iter__(self) -> Iterator[tuple[LMBatch, ...]]:
        while self.step < self.num_steps:
            self.step += 1
            yield (self.windows.take(self.batch_rows),)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "windows": self.windows.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step = state["step"]
        self.windows.load_state_dict(state["windows"])


class Mixed:
    """Demonstrations, and beside them in every batch `num_text_rows` windows of pretraining text (none: no text)."""

    is_resumable = True

    def __init__(self, demonstrations: Epochs[LMBatch], windows: Windows | None, num_text_rows: int):
        self.demonstrations = demonstrations
        self.windows = windows
        self.num_text_rows = num_text_rows

    def __len__(self) -> int:
        return len(self.demonstrations)

    @property
    def place(self) -> str:
        """Return the demonstrations of the batch given last, and the windows beside them."""
        beside = f"; {self.windows.place(self.num_text_rows)}" if self.windows else ""
        return self.demonstrations.place + beside

    def __iter__(self) -> Iterator[tuple[LMBatch, ...]]:
        for batch in self.demonstrations:
            yield (batch, self.windows.take(self.num_text_rows)) if self.windows else (batch,)

    def state_dict(self) -> dict[str, Any]:
        text = {"windows": self.windows.state_dict()} if self.windows else {}
        return {"demonstrations": self.demonstrations.state_dict(), **text}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.demonstrations.load_state_dict(state["demonstrations"])
        if self.windows:
            self.windows.load_state_dict(state["windows"])


def by_length(lengths: Sequence[int], micro_batch_rows: int | None) -> list[Tensor]:
    """Return row numbers in groups of at most `micro_batch_rows`, like lengths together; None: one group."""
    order = torch.tensor(sorted(range(len(lengths)), key=lambda row: -lengths[row]), dtype=torch.int64)
    return list(order.split(micro_batch_rows or max(len(lengths), 1)))
