import os
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

from instructloop.core.batches import LMBatch
from instructloop.core.masked import Sum
from instructloop.core.schedules import cosine_to_tenth
from instructloop.models.masters import lower, master
from instructloop.train.ema import Ema
from instructloop.train.finite import NotFinite
from instructloop.train.language import adam, held_out_loss, lm_task
from instructloop.train.loop import FitConfig, Interrupted, Task, fit
from instructloop.train.streams import Epochs, Mixed, Windows
from tests.tiny import tiny_lm

CONFIG = FitConfig(seed=5, max_grad_norm=1.0, log_every=1, checkpoint_every_seconds=0.0)
"""A checkpoint after every step."""


class Stop(Exception):
    """A crash, as a test plants it."""


def line_task(rates: list[float] | None = None) -> Task:
    """One weight w and targets x: loss = mean over rows of (w - x)^2 / 2, so the gradient is w - mean x."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    data = torch.tensor([1.0, 2.0, 3.0, 6.0])
    return Task(
        model=model,
        batches=Epochs(4, lambda index: data[index], batch_rows=4, num_epochs=3, seed=0),
        counts=lambda batch: {"rows": len(batch)},
        split=lambda batch: list(batch.split(3)),
        loss=lambda model, x, counts: (
            0.5 * (model.weight[0, 0] - x).square().sum() / counts["rows"],
            {"mean_x": Sum(x.sum(), float(len(x)))},
        ),
        num_tokens=len,
    )


def test_a_step_is_the_gradient_of_the_whole_batch_times_the_scheduled_rate(new_run):
    task, run = line_task(), new_run()
    optimizer = torch.optim.SGD(task.model.parameters(), lr=0.5)
    config = FitConfig(seed=0, max_grad_norm=None, log_every=1)
    assert fit(task, optimizer, lambda step: 1 / (step + 1), config, run) == 3
    # mean x = 3; w: 0 -> 0 + .5 * 3 = 1.5 -> + .25 * 1.5 = 1.875 -> + .5 / 3 * 1.125 = 2.0625
    assert task.model.weight.item() == pytest.approx(2.0625)
    rows = run.metrics()
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert [row["lr"] for row in rows] == pytest.approx([0.5, 0.25, 0.5 / 3])
    assert [row["grad_norm"] for row in rows] == pytest.approx([3.0, 1.5, 1.125])  # before clipping
    assert rows[0]["loss"] == pytest.approx((1 + 4 + 9 + 36) / 2 / 4)
    assert rows[0]["mean_x"] == pytest.approx(3.0)


def test_a_tiny_clip_moves_no_weight(new_run):
    task = line_task()
    config = FitConfig(seed=0, max_grad_norm=1e-9)
    fit(task, torch.optim.SGD(task.model.parameters(), lr=1.0), lambda _: 1.0, config, new_run())
    assert 0 < task.model.weight.item() < 1e-8


def test_each_parameter_group_is_clipped_by_itself(new_run):
    model = nn.Module()  # two weights with gradients 30 and .4
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    model.a, model.b = a, b
    task = Task(
        model=model,
        batches=Epochs(1, list, batch_rows=1, num_epochs=1, seed=0),
        counts=lambda _: {},
        split=lambda batch: [batch],
        loss=lambda model, *_: ((30 * model.a + 0.4 * model.b).sum(), {}),
        num_tokens=len,
    )
    groups = [{"params": [a], "lr": 1.0, "name": "policy"}, {"params": [b], "lr": 0.5, "name": "value"}]
    run = new_run()
    fit(task, torch.optim.SGD(groups), lambda _: 1.0, FitConfig(seed=0, max_grad_norm=1.0), run)
    assert a.item() == pytest.approx(-1.0)  # 30 cut down to 1
    assert b.item() == pytest.approx(-0.5 * 0.4)  # below 1, so as it is
    (row,) = run.metrics()
    assert (row["grad_norm/policy"], row["grad_norm/value"]) == pytest.approx((30.0, 0.4))
    assert (row["lr/policy"], row["lr/value"]) == (1.0, 0.5)


def test_metrics_are_means_over_what_was_counted_since_the_last_line(new_run):
    task, run = line_task(), new_run()
    config = FitConfig(seed=0, max_grad_norm=None, log_every=2)
    fit(task, torch.optim.SGD(task.model.parameters(), lr=0.0), lambda _: 1.0, config, run)
    assert [row["step"] for row in run.metrics()] == [2, 3]  # the last step always has a line
    assert [row["mean_x"] for row in run.metrics()] == [3.0, 3.0]


@pytest.mark.parametrize("bad", [0, 1, 3])
def test_one_micro_batch_that_is_not_finite_stops_the_whole_step(new_run, bad: int):
    task = line_task()
    pieces = [torch.tensor([row]) for row in (1.0, 2.0, 3.0, 6.0)]
    pieces[bad] = torch.tensor([torch.nan])
    optimizer = torch.optim.Adam(task.model.parameters(), lr=0.1)
    whole = replace(task, split=lambda _: pieces)
    with pytest.raises(NotFinite):
        fit(whole, optimizer, lambda _: 1.0, FitConfig(seed=0, max_grad_norm=1.0), new_run())
    assert task.model.weight.item() == 0.0  # the good pieces made no step of their own
    assert not optimizer.state


def test_ctrl_c_writes_a_checkpoint_and_the_next_fit_goes_on_from_there(new_run):
    whole = line_task()
    fit(whole, torch.optim.SGD(whole.model.parameters(), lr=0.5), lambda _: 1.0, CONFIG, new_run(number=1))
    config = FitConfig(seed=5, max_grad_norm=1.0, log_every=1, checkpoint_every_seconds=1e9)
    first, run = line_task(), new_run(number=2)
    with pytest.raises(Interrupted, match="stopped after step 1"):
        fit(
            first,
            torch.optim.SGD(first.model.parameters(), lr=0.5),
            lambda _: 1.0,
            config,
            run,
            after_step=lambda _: os.kill(os.getpid(), signal.SIGINT),
        )
    second = line_task()
    fit(second, torch.optim.SGD(second.model.parameters(), lr=0.5), lambda _: 1.0, config, run)
    assert torch.equal(second.model.weight, whole.model.weight)
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]


def demonstrations(number: int = 12) -> LMBatch:
    """Random rows of a prompt of 1-3 and a completion of 1-4 tokens."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(3, 290, (number, 7), generator=generator)
    prompts = torch.randint(1, 4, (number, 1), generator=generator)
    completions = torch.randint(1, 5, (number, 1), generator=generator)
    column = torch.arange(7)
    attention = (column >= 3 - prompts) & (column < 3 + completions)
    return LMBatch(tokens, attention, attention[:, 3:])


def lm_setup(micro_batch_rows: int | None = None):
    """Model, average, optimizer and task of a small fit on demonstrations and text, with dropout."""
    model = tiny_lm(dropout=0.1, width=16)[0].train()
    rows = demonstrations()
    stream = Mixed(
        Epochs(12, lambda index: rows.rows(torch.tensor(index)), batch_rows=5, num_epochs=2, seed=3),
        Windows(torch.arange(100) % 28, 8, seed=3),
        2,
    )
    task = lm_task(model, stream, micro_batch_rows=micro_batch_rows)
    optimizer = adam(model.parameters(), 0.01, betas=(0.9, 0.95), weight_decay=0.1)
    return task, optimizer, Ema(model, 0.9)


def lm_fit(run, crash_after: int = 0):
    task, optimizer, ema = lm_setup()

    def after_step(num_steps: int) -> None:
        ema.update()
        if num_steps == crash_after:
            raise Stop

    fit(task, optimizer, lambda step: cosine_to_tenth(step, 6), CONFIG, run, state={"ema": ema}, after_step=after_step)
    return task.model.state_dict(), ema.state_dict()


def without_times(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "perf/"))} for row in rows]


def test_a_crash_at_any_step_changes_nothing(new_run):
    undisturbed = new_run(number=0)
    weights, average = lm_fit(undisturbed)
    for crash_after in (1, 3, 6):
        run = new_run(number=crash_after)
        with pytest.raises(Stop):
            lm_fit(run, crash_after)
        resumed_weights, resumed_average = lm_fit(run)
        assert all(torch.equal(weights[name], resumed_weights[name]) for name in weights)
        assert all(torch.equal(average[name], resumed_average[name]) for name in average)
        assert without_times(run.metrics()) == without_times(undisturbed.metrics())


@pytest.mark.parametrize("micro_batch_rows", [1, 2, 3])
def test_any_split_into_micro_batches_gives_the_same_gradient(micro_batch_rows: int):
    gradients: list[torch.Tensor] = []
    for rows in (None, micro_batch_rows):
        task, _, _ = lm_setup(rows)
        task.model.eval()  # dropout is drawn per forward, so it does depend on the split
        batch = next(iter(task.batches))
        counts = task.counts(batch)
        for piece in task.split(batch):
            task.loss(task.model, piece, counts)[0].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in task.model.parameters()]))
    assert gradients[1] == pytest.approx(gradients[0], abs=1e-5)
    assert float(gradients[0].norm()) > 0.1


def test_every_token_of_text_and_demonstrations_weighs_the_same():
    task, _, _ = lm_setup()
    task.model.eval()
    demonstration, text = batch = next(iter(task.batches))
    counts = task.counts(batch)
    loss = sum(task.loss(task.model, piece, counts)[0].item() for piece in task.split(batch))
    tokens = [float(part.mask_BC.sum()) for part in (demonstration, text)]
    assert tokens[1] == 2 * 7
    means = [held_out_loss(task.model, [part]) for part in (demonstration, text)]
    assert loss == pytest.approx((tokens[0] * means[0] + tokens[1] * means[1]) / sum(tokens))


def test_the_average_of_a_model_in_bfloat16_is_that_of_its_masters():
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    lower(model, torch.bfloat16)
    ema = Ema(model, 0.5)
    with torch.no_grad():
        master(model.weight).add_(0.001)  # bfloat16 next has 1.0078
    ema.update()  # .5 * 1 + .5 * 1.001
    with ema.applied():
        assert master(model.weight).item() == pytest.approx(1.0005, abs=1e-7)
        assert model.weight.item() == 1.0
    assert master(model.weight).item() == pytest.approx(1.001, abs=1e-7)


def test_held_out_loss_is_that_of_transformers():
    model = tiny_lm(dropout=0.5)[0].train()
    batch = Windows(torch.arange(100) % 28, 8, seed=3).take(4)
    found = held_out_loss(model, [batch])
    assert model.training
    model.eval()
    assert found == pytest.approx(model(batch.tokens_BT, labels=batch.tokens_BT).loss.item(), abs=1e-5)


def test_the_average_follows_its_definition_and_gives_the_weights_back():
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = torch.tensor([[1.0, 2.0]])
    ema = Ema(model, 0.75)
    model.weight.data = torch.tensor([[5.0, 2.0]])
    ema.update()  # .75 * 1 + .25 * 5 = 2
    ema.update()  # .75 * 2 + .25 * 5 = 2.75
    with ema.applied():
        assert model.weight.tolist() == [[2.75, 2.0]]
    assert model.weight.tolist() == [[5.0, 2.0]]
