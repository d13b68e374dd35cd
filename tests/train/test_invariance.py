"""What must not change a step: how a batch is cut into micro-batches, and how much padding stands beside its rows.

A step is what `fit` makes of one batch: the weights after it, clipping included, and every metric that it logs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instructloop.core.batches import LMBatch
from instructloop.models.scalar import ScalarModel
from instructloop.runs import Run
from instructloop.train.language import lm_task
from instructloop.train.loop import FitConfig, Task, fit
from instructloop.train.ppo import PPOBatch, ppo_task
from instructloop.train.ranked import RankedPrompt, ranked_batch, ranking_task
from instructloop.train.streams import Epochs, Windows
from instructloop.train.trim import trimmed
from tests.tiny import tiny_lm
from tests.train.small import SETTINGS, STOPS, actors, stream_of, widened

CLIP = 0.5
"""Below the norm of every gradient here, so that clipping is part of the step."""


@dataclass
class Case:
    """A task with one batch and the ways to cut and to pad it."""

    task_of: Callable[[int | None], Task[Any]]  # by rows of a micro-batch
    batch_of: Callable[[int | None], Any]  # a reward model's batch is cut when it is made
    grouped: Callable[[Any, Sequence[Sequence[int]]], list[Any]]  # pieces of any rows
    padded: Callable[[Any, int, int], Any]
    untrimmed: Callable[[Any], list[Any]]  # as few pieces as there may be, with all their padding
    num_rows: int

    def __post_init__(self) -> None:
        self.start = {name: weight.clone() for name, weight in self.task_of(None).model.state_dict().items()}

    def step(self, run: Run, batch: Any, rows: int | None = None, pieces: list[Any] | None = None) -> Step:
        """Make one step from the same weights each time; `pieces` takes the place of the task's own split."""
        task = replace(self.task_of(rows), batches=Epochs(1, lambda _: batch, batch_rows=1, num_epochs=1, seed=0))
        if pieces is not None:
            task = replace(task, split=lambda _: pieces)
        task.model.load_state_dict(self.start)
        optimizer = torch.optim.SGD(task.model.parameters(), lr=1.0)
        fit(task, optimizer, lambda _: 1.0, FitConfig(seed=0, max_grad_norm=CLIP, log_every=1), run)
        (row,) = run.metrics()
        metrics = {name: value for name, value in row.items() if not name.startswith(("time/", "perf/"))}
        return Step(torch.cat([weight.detach().flatten() for weight in task.model.parameters()]), metrics)


@dataclass
class Step:
    """The weights after a step, and what was logged of it."""

    weights: torch.Tensor
    metrics: dict[str, float]

    def must_equal(self, other: Step) -> None:
        assert self.metrics == pytest.approx(other.metrics, abs=1e-5, rel=1e-5)
        assert float((self.weights - other.weights).abs().max()) < 1e-5


# --- SFT, with and without text beside the demonstrations ---------------------------------------------------------

DEMONSTRATIONS = [
    ([10], [11, 12, 13, 14, 0]),
    ([20, 21, 22], [0]),
    ([30, 31], [32, 0]),
    ([40], [41, 42, 0]),
    ([50], [0]),
]


def sft(architecture: str, *, num_text_rows: int) -> Case:
    model, text = tiny_lm(architecture)
    prompts, completions = zip(*DEMONSTRATIONS, strict=True)
    demonstrations = LMBatch(*text.pad_left_right(prompts, completions))
    windows = Windows(torch.arange(3, 280, dtype=torch.int32), 6, seed=0)
    parts = (demonstrations, windows.take(num_text_rows)) if num_text_rows else (demonstrations,)

    def grouped(parts: tuple[LMBatch, ...], groups: Sequence[Sequence[int]]) -> list[tuple[LMBatch, ...]]:
        return [(piece,) for part in parts for piece in pieces_of(part, groups)]

    return Case(
        task_of=lambda rows: lm_task(model, Epochs(1, list, batch_rows=1, num_epochs=1, seed=0), micro_batch_rows=rows),
        batch_of=lambda _: parts,
        grouped=grouped,
        padded=lambda parts, left, right: tuple(widened(part, left=left, right=right) for part in parts),
        untrimmed=lambda parts: [(part,) for part in parts],
        num_rows=len(DEMONSTRATIONS),
    )


def pieces_of(batch: Any, groups: Sequence[Sequence[int]]) -> list[Any]:
    """Return the rows of each group, those that a smaller batch has; padding goes where no row of a piece needs it."""
    own = [[row for row in group if row < len(batch.tokens_BT)] for group in groups]
    return [trimmed(batch.rows(torch.tensor(group))) for group in own if group]


# --- the reward model ---------------------------------------------------------------------------------------------

RANKED = [
    RankedPrompt("a", ([10, 11, 0], [10, 12, 13, 0], [10, 0]), (((2,), (0, 1)),)),
    RankedPrompt("b", ([20, 21, 22, 23, 24, 0], [20, 25, 0]), (((0,), (1,)), ((1,), (0,)))),
    RankedPrompt("c", ([30, 0], [30, 31, 0], [30, 32, 33, 0], [30, 34, 35, 36, 0]), (((3,), (0,), (1,), (2,)),)),
    RankedPrompt("d", ([40, 41, 0], [40, 42, 43, 44, 45, 46, 47, 0]), (((1,), (0,)),)),
    RankedPrompt("e", ([50, 0], [51, 0]), (((0, 1),),)),  # a tie has no comparison, but its rows are scored
]


def reward(architecture: str) -> Case:
    model, text = ScalarModel.from_lm(*tiny_lm(architecture), seed=1)
    return Case(
        task_of=lambda _: ranking_task(model, Epochs(1, list, batch_rows=1, num_epochs=1, seed=0)),
        batch_of=lambda rows: ranked_batch(RANKED, text, rows),
        grouped=lambda _, groups: [ranked_batch([RANKED[i] for i in group], text, None) for group in groups],
        padded=lambda pieces, left, right: tuple(widened(piece, left=left, right=right) for piece in pieces),
        untrimmed=lambda pieces: [(piece,) for piece in pieces],
        num_rows=len(RANKED),
    )


# --- PPO and PPO-ptx, in the middle of a rollout ------------------------------------------------------------------


def ppo(architecture: str, *, ptx_coef: float) -> Case:
    rules = replace(SETTINGS, num_minibatches=1, ptx_coef=ptx_coef, num_ptx_rows=5 if ptx_coef else 0)
    found = actors(architecture, stops=STOPS)
    # All metrics of the rollout go with the batch, but the policy has moved on since: ratios are not 1, some clipped.
    batch = replace(next(iter(stream_of(found, rules))), is_first=False)
    with torch.no_grad():
        for parameter in found.learners.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(9))

    def grouped(batch: PPOBatch, groups: Sequence[Sequence[int]]) -> list[PPOBatch]:
        episodes = [PPOBatch(piece, None) for piece in pieces_of(batch.rollout, groups)]
        texts = [PPOBatch(None, piece) for piece in pieces_of(batch.text, groups)] if batch.text else []
        return [replace(episodes[0], metrics=batch.metrics), *episodes[1:], *texts]

    def padded(batch: PPOBatch, left: int, right: int) -> PPOBatch:
        text = widened(batch.text, left=left, right=right) if batch.text else None
        assert batch.rollout is not None
        return replace(batch, rollout=widened(batch.rollout, left=left, right=right), text=text)

    return Case(
        task_of=lambda rows: ppo_task(stream_of(found, rules), found.learners, replace(rules, micro_batch_rows=rows)),
        batch_of=lambda _: batch,
        grouped=grouped,
        padded=padded,
        untrimmed=lambda batch: [replace(batch, text=None), *([PPOBatch(None, batch.text)] if batch.text else [])],
        num_rows=rules.episodes_per_iteration,
    )


CASES = {
    "SFT-gpt2": lambda: sft("gpt2", num_text_rows=0),
    "SFT with text-llama": lambda: sft("llama", num_text_rows=3),
    "RM-llama": lambda: reward("llama"),
    "RM-gpt2": lambda: reward("gpt2"),
    "PPO-gpt2": lambda: ppo("gpt2", ptx_coef=0.0),
    "PPO-ptx-llama": lambda: ppo("llama", ptx_coef=0.7),
    "PPO-ptx-gpt2": lambda: ppo("gpt2", ptx_coef=0.7),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Run]:
    """Return what starts a fresh run each time."""
    folder, numbers = tmp_path_factory.mktemp("steps"), count()
    return lambda: Run.start(folder / str(next(numbers)), "import", name="step", round=1, config={}, parents={})


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]()


@pytest.fixture(scope="module")
def whole(case: Case, runs: Callable[[], Run]) -> Step:
    """The step of the batch in one piece, without more padding than it has."""
    step = case.step(runs(), case.batch_of(None))
    (norm,) = [value for name, value in step.metrics.items() if name.startswith("grad_norm")]
    assert norm > CLIP
    return step


def test_micro_batches_of_any_number_of_rows_give_the_same_step(case: Case, whole: Step, runs):
    for rows in (1, 2, case.num_rows - 1):
        case.step(runs(), case.batch_of(rows), rows).must_equal(whole)


@settings(max_examples=3, deadline=None)
@given(data=st.data())
def test_micro_batches_of_any_rows_give_the_same_step(case: Case, whole: Step, runs, data: st.DataObject):
    order = data.draw(st.permutations(range(case.num_rows)))
    cuts = sorted(data.draw(st.sets(st.integers(1, case.num_rows - 1), min_size=1)))
    groups = [order[start:end] for start, end in zip([0, *cuts], [*cuts, None], strict=True)]
    batch = case.batch_of(None)
    case.step(runs(), batch, pieces=case.grouped(batch, groups)).must_equal(whole)


@pytest.mark.parametrize(("left", "right"), [(3, 0), (5, 9)])
def test_padding_of_any_amount_on_either_side_gives_the_same_step(case: Case, whole: Step, runs, left: int, right: int):
    batch = case.padded(case.batch_of(None), left, right)
    case.step(runs(), batch, rows=2).must_equal(whole)
    case.step(runs(), batch, pieces=case.untrimmed(batch)).must_equal(whole)
