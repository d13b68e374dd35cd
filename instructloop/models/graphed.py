"""Decoding steps over fixed places, each recorded once as a CUDA graph and played from then on; no sampling.

A step of a large GPU is some hundred kernels of microseconds, so that starting them takes longer than they do. A graph
starts them all at once, but its shapes never change: rows and columns are rounded up, and masked where nothing is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from instructloop.models.lean import LeanForward

LEAST_ROWS = 8
"""Rows are rounded up to the next power of two, at least this; each has a graph for each range of columns."""
RANGE = 64
"""The columns that are read begin and end at multiples of this."""
WORTH_TOKENS = 16
"""Recording takes as long as a few steps: completions shorter than this are decoded without."""


class GraphedForward(LeanForward):
    """`LeanForward` whose steps are recorded on a CUDA device; elsewhere the same steps run as they are."""

    def __init__(self, model: PreTrainedModel, num_slots: int, num_columns: int):
        super().__init__(model, num_slots, num_columns)
        self.num_slots, self.num_columns = num_slots, num_columns
        self.token_A, self.place_A = (torch.zeros(num_slots, dtype=torch.long, device=self.device) for _ in range(2))
        self.column_1 = torch.zeros(1, dtype=torch.long, device=self.device)
        self.logits_AV = torch.zeros(num_slots, model.config.get_text_config().vocab_size, device=self.device)
        self.steps: dict[tuple[int, int, int], Callable[[], Any]] = {}
        self.pool: Any = torch.cuda.graph_pool_handle() if self.device.type == "cuda" else None

    def step(self, tokens: Sequence[int]) -> Float[Tensor, "A V"]:
        """Return the logits after one more token of each row; the next step writes over them."""
        if self.column == self.num_columns:
            self._to_the_front()
        num_rows, column = len(self.first), self.column
        place = (
            min(self.num_slots, max(LEAST_ROWS, 1 << (num_rows - 1).bit_length())),
            min(self.first) // RANGE * RANGE,
            min(self.num_columns, -(-(column + 1) // RANGE) * RANGE),
        )
        self.token_A[:num_rows] = torch.tensor(tokens, device=self.device)
        self.place_A[:num_rows] = self.position_A
        self.column_1.fill_(column)
        self.mask_AK[: place[0], column] = 0.0  # free slots too: where nothing may be read, softmax is NaN
        if place not in self.steps:
            self.steps[place] = self._recorded(lambda: self._fixed_step(*place))
        self.steps[place]()
        self.position_A = self.position_A + 1
        self.column += 1
        return self.logits_AV[:num_rows]

    def _fixed_step(self, num_rows: int, first: int, end: int) -> None:
        """Compute the logits of the first slots, reading only the columns from `first` to before `end`."""
        mask_A11K = self.mask_AK[:num_rows, None, None, first:end]

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            keys, values = self.keys[layer, :num_rows], self.values[layer, :num_rows]
            keys.index_copy_(2, self.column_1, key[:, :, None])
            values.index_copy_(2, self.column_1, value[:, :, None])
            return self._attended(query, keys[:, :, first:end], values[:, :, first:end], mask_A11K)

        self.logits_AV[:num_rows] = self._logits(
            self._through(self.token_A[:num_rows], self.place_A[:num_rows], attend)
        )

    def _recorded(self, work: Callable[[], None]) -> Callable[[], Any]:
        """Return what does `work`: on a CUDA device its graph, else itself."""
        if self.device.type != "cuda":
            return work
        aside = torch.cuda.Stream()  # libraries allocate at their first call, which must not be recorded
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            work()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):
            work()
        return graph.replay
