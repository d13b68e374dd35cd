"""The only training loop: gradients of micro-batches, one optimizer step, metrics, checkpoints; no loss of its own."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from instructloop.console import Track
from instructloop.core.masked import Sum
from instructloop.files import sync_tree
from instructloop.models.masters import MasterState, round_masters
from instructloop.runs import Run
from instructloop.train.checkpoint import Checkpoints, Stateful
from instructloop.train.finite import require_finite_step, require_finite_weights
from instructloop.train.profile import profiled
from instructloop.train.streams import Stream, derived_seed

Batch = TypeVar("Batch")
Counts = Mapping[str, float]
Metrics = dict[str, Sum]


class Interrupted(KeyboardInterrupt):
    """Somebody asked to stop; a checkpoint is written and the same command goes on from there."""


@dataclass(frozen=True, slots=True)
class Task(Generic[Batch]):
    """All that differs between pretraining, SFT, reward model and PPO."""

    model: nn.Module  # everything that is trained, and nothing else
    batches: Stream[Batch]  # pulled only after the previous step, so a stream may sample from the model
    counts: Callable[[Batch], Counts]  # what the loss divides by, from the masks of the whole batch alone
    split: Callable[[Batch], Sequence[Batch]]  # micro-batches; the step does not depend on how many
    loss: Callable[[nn.Module, Batch, Counts], tuple[Tensor, Metrics]]  # of a micro-batch; they add up to the batch's
    num_tokens: Callable[[Batch], int]  # real tokens, for the speed


@dataclass(frozen=True, slots=True)
class FitConfig:
    """How the loop steps; what has a default changes no result."""

    seed: int  # of dropout; data order belongs to the streams
    max_grad_norm: float | None  # of each parameter group by itself; None: not clipped, the norm is logged all the same
    log_every: int = 10  # optimizer steps
    log_unit: int = 1  # optimizer steps that the metrics call one step: an iteration of PPO is several
    shown: tuple[str, ...] = ("loss",)  # metrics that stand beside the progress bar
    checkpoint_every_seconds: float = 60.0  # at the earliest; never more than a twentieth of the time


def fit(
    task: Task[Batch],
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[int], float],
    config: FitConfig,
    run: Run,
    *,
    state: Mapping[str, Stateful] | None = None,
    after_step: Callable[[int], Mapping[str, float] | None] | None = None,
    track: Track | None = None,
) -> int:
    """Train until the stream ends, from the run's latest checkpoint if it has one; return the number of steps.

    `schedule(step)` is the factor of every parameter group's `lr` for step 0, 1, …; `state` is what else a checkpoint
    must hold; `after_step(num_steps)` is called after each optimizer step and may return metrics to log.
    Ctrl-C or SIGTERM: goes on to the next resumable step, writes a checkpoint and raises Interrupted. A number that is
    not finite raises NotFinite: no step is made with it, and it gets neither into a checkpoint nor into what is saved.
    """
    window = Window(config.shown)
    parts = {"model": MasterState(task.model), "optimizer": optimizer, "batches": task.batches, "window": window}
    _keep_base_rates(optimizer)
    saver = _Saver(
        Checkpoints(run.path / "checkpoints", run.id), {**parts, **(state or {})}, config.checkpoint_every_seconds
    )
    step = saver.restore()
    if track is not None and step:
        track.advance(step)
    profiling = profiled(run.path, num_steps=len(task.batches) - step, unit=config.log_unit)
    with _stop_requests() as stop, torch.random.fork_rng(), profiling as stepped:
        window.start()
        for batch in task.batches:
            window.waited()
            _train_step(task, optimizer, batch, step, schedule(step), config, window)
            step += 1
            stepped()
            extra = after_step(step) if after_step else None
            window.waited()
            if extra or step % config.log_every == 0 or step == len(task.batches):
                run.log(step // config.log_unit, {**window.flush(), **(extra or {})})
            if track is not None:
                track.advance(1, **window.shown)
            if task.batches.is_resumable:
                saver.resumable(step, stop)
    require_finite_weights(task.model, "at the end")
    return step


def _keep_base_rates(optimizer: torch.optim.Optimizer) -> None:
    """Remember each group's own learning rate before the schedule scales it; a resumed optimizer brings it along."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])


def _train_step(
    task: Task[Batch],
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    step: int,
    rate_factor: float,
    config: FitConfig,
    window: Window,
) -> None:
    """Accumulate the gradient of every micro-batch, then make one optimizer step."""
    if task.model.training:  # dropout takes the global generator: seeded by step, so that a resumed run draws the same
        torch.manual_seed(derived_seed(config.seed, "dropout", step))
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * rate_factor
    optimizer.zero_grad(set_to_none=True)
    counts = task.counts(batch)
    total = 0.0
    for piece in task.split(batch):
        loss, metrics = task.loss(task.model, piece, counts)
        loss.backward()
        total += float(loss.detach())
        window.add(metrics)
    gradients = {name: [p for p in group["params"] if p.grad is not None] for name, group in _groups(optimizer).items()}
    norms = {name: torch.nn.utils.get_total_norm([p.grad for p in of]) for name, of in gradients.items()}  # pyright: ignore[reportArgumentType]
    require_finite_step(
        task.model, total, norms.values(), lambda: f"in step {step + 1} of {len(task.batches)}, {task.batches.place}"
    )
    if config.max_grad_norm is not None:
        for name, parameters in gradients.items():
            torch.nn.utils.clip_grads_with_norm_(parameters, config.max_grad_norm, norms[name])
    optimizer.step()
    round_masters(task.model)
    rates = {f"lr{name}": group["lr"] for name, group in _groups(optimizer).items()}
    window.stepped({"loss": total} | {f"grad_norm{name}": float(norm) for name, norm in norms.items()}, rates)
    window.num_tokens += task.num_tokens(batch)


def _groups(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """Return parameter groups by what follows a metric's name: `/policy` for a group named so, else nothing."""
    return {f"/{group['name']}" if "name" in group else "": group for group in optimizer.param_groups}


class Window:
    """The metrics since they were logged last, as sums; part of the checkpoint, so that a resumed run logs the same."""

    def __init__(self, names_shown: tuple[str, ...] = ()) -> None:
        self.names_shown = names_shown
        self.sums: dict[str, tuple[float, float]] = {}
        self.last: dict[str, float] = {}
        self.shown: dict[str, float] = {}
        self.start()

    def start(self) -> None:
        """Begin to take the time."""
        self.num_tokens = 0
        self.wait_seconds = 0.0
        self.started = self.mark = time.perf_counter()

    def waited(self) -> None:
        """What passed since the last step was no update: the stream gave its next batch, a hook did its work."""
        self.wait_seconds += time.perf_counter() - self.mark
        self.mark = time.perf_counter()

    def add(self, metrics: Mapping[str, Sum]) -> None:
        """Merge the sums of one micro-batch."""
        for name, value in metrics.items():
            total, count = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (total + float(value.total), count + float(value.count))

    def stepped(self, values: Mapping[str, float], last: Mapping[str, float]) -> None:
        """Take what one optimizer step says of itself: values to average, and values of which the last counts."""
        self.add({name: Sum(value, 1.0) for name, value in values.items()})
        self.last.update(last)
        self.mark = time.perf_counter()

    def flush(self) -> dict[str, float]:
        """Return the means, the rates and the speed, and begin anew."""
        seconds = time.perf_counter() - self.started
        means = {name: total / count for name, (total, count) in self.sums.items() if count}
        self.shown = {name.split("/")[-1]: means[name] for name in self.names_shown if name in means}
        speed = {"perf/tokens_per_second": self.num_tokens / seconds, "time/update": seconds - self.wait_seconds}
        logged = {**means, **self.last, **speed}
        self.sums, self.last = {}, {}
        self.start()
        return logged

    def state_dict(self) -> dict[str, Any]:
        """Return the sums; times are not state."""
        return {"sums": {name: list(pair) for name, pair in self.sums.items()}, "last": dict(self.last)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take sums back."""
        self.sums = {name: (total, count) for name, (total, count) in state["sums"].items()}
        self.last = dict(state["last"])


class _Saver:
    """Writes checkpoints often enough to lose little, rarely enough to cost little."""

    def __init__(self, checkpoints: Checkpoints, parts: Mapping[str, Stateful], every_seconds: float):
        self.checkpoints = checkpoints
        self.parts = parts
        self.every_seconds = every_seconds
        self.due = time.monotonic() + every_seconds

    def restore(self) -> int:
        """Load the latest checkpoint into the parts; return its step, 0 without one."""
        return self.checkpoints.restore(self.parts)

    def is_due(self) -> bool:
        return time.monotonic() >= self.due

    def resumable(self, step: int, stop: _Stop) -> None:
        """Save when it is time to, or when somebody asked to stop, which then happens."""
        if stop.requested or self.is_due():
            self.save(step)
        if stop.requested:
            raise Interrupted(f"stopped after step {step}; the same command goes on from there")

    def save(self, step: int) -> None:
        """Write all parts, unless a weight is not finite; the next one waits twenty times as long as this one took.

        What the run wrote before (an epoch's model, a snapshot, metrics) is on the disk first: a run that goes on from
        here does not write it again.
        """
        started = time.monotonic()
        if isinstance(weights := self.parts["model"], MasterState):
            require_finite_weights(weights.model, f"after step {step}")
        sync_tree(self.checkpoints.folder.parent)
        self.checkpoints.save(step, {name: part.state_dict() for name, part in self.parts.items()})
        seconds = time.monotonic() - started
        self.due = time.monotonic() + max(self.every_seconds, 20 * seconds if self.every_seconds else 0)


class _Stop:
    """Whether somebody asked to stop; asking twice stops at once."""

    requested = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextmanager
def _stop_requests() -> Generator[_Stop]:
    """Turn Ctrl-C and SIGTERM into a request; only the main thread can."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
