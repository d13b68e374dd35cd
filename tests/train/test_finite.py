"""Loss, gradient and weights that are not finite: named, never stepped with, never kept."""

import pytest
import torch
from torch import nn

from instructloop.models.masters import lower, master
from instructloop.train.finite import NotFinite, require_finite_rows, require_finite_weights
from instructloop.train.loop import FitConfig, Task, fit
from instructloop.train.streams import Epochs, Mixed, TextOnly, Windows, derived_seed, permutation

EVERY_STEP = FitConfig(seed=0, max_grad_norm=1.0, log_every=1, checkpoint_every_seconds=0.0)
"""A checkpoint after every step."""


class Pair(nn.Module):
    """Two weights; the loss is mean of (first * second - x)^2 over the rows of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))


def task() -> Task:
    data = torch.arange(6.0)
    return Task(
        model=Pair(),
        batches=Epochs(6, lambda index: data[index], batch_rows=2, num_epochs=2, seed=4),
        counts=lambda batch: {"rows": len(batch)},
        split=lambda batch: list(batch.split(1)),
        loss=lambda model, x, counts: (((model.first * model.second).sum() - x).square().sum() / counts["rows"], {}),
        num_tokens=len,
    )


def trained(made: Task, run, config: FitConfig = EVERY_STEP, after_step=None) -> None:
    optimizer = torch.optim.SGD(made.model.parameters(), lr=0.01)
    fit(made, optimizer, lambda _: 1.0, config, run, after_step=after_step)


def poison(made: Task, at: int, value: float = torch.nan):
    """Return a hook that spoils one number of `second` after so many steps."""

    def after_step(num_steps: int) -> None:
        if num_steps == at:
            made.model.second.data[1] = value

    return after_step


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_spoilt_weight_is_named_with_step_and_batch_before_it_is_stepped_with(new_run, value: float):
    made = task()
    late = FitConfig(seed=0, max_grad_norm=1.0, checkpoint_every_seconds=1e9)
    with pytest.raises(NotFinite) as error:
        trained(made, new_run(), late, poison(made, 4, value))
    message = str(error.value)
    assert "the weight second is not finite" in message
    assert "in step 5 of 6, batch 2 of epoch 2" in message
    rows = permutation(6, derived_seed(4, "epoch", 1))[2:4]  # of the second epoch, the second batch of two
    assert f"rows {rows[0]}, {rows[1]} of the data" in message
    assert made.model.first.isfinite().all()  # no step was made


def test_a_spoilt_weight_never_gets_into_a_checkpoint_and_the_run_goes_on_as_if_nothing_had_been(new_run):
    whole = task()
    trained(whole, new_run(number=1))
    made, run = task(), new_run(number=2)
    with pytest.raises(NotFinite, match="the weight second is not finite after step 4"):
        trained(made, run, after_step=poison(made, 4))
    assert sorted(path.name for path in run.file("checkpoints").glob("*.json")) == ["00000002.json", "00000003.json"]
    again, run = task(), new_run(number=2)
    trained(again, run)
    assert torch.equal(again.model.first, whole.model.first)
    assert torch.equal(again.model.second, whole.model.second)
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4, 5, 6]


def test_a_weight_spoilt_by_the_last_step_is_refused_too(new_run):
    made = task()
    late = FitConfig(seed=0, max_grad_norm=None, checkpoint_every_seconds=1e9)
    with pytest.raises(NotFinite, match="the weight second is not finite at the end"):
        trained(made, new_run(), late, poison(made, 6))


@pytest.mark.parametrize("limit", [None, 1.0])
def test_the_gradient_that_is_not_finite_is_named_and_not_another_that_clipping_would_spoil(new_run, limit):
    made = task()
    made.model.second.register_hook(lambda grad: grad * torch.nan)
    with pytest.raises(NotFinite, match="the gradient of second is not finite, in step 1 of 6"):
        trained(made, new_run(), FitConfig(seed=0, max_grad_norm=limit))
    assert made.model.first.tolist() == [1.0, 1.0]


def test_a_loss_that_is_not_finite_without_a_weight_to_blame_is_said_to_be_just_that(new_run):
    made = task()
    made.model.first.data.fill_(1e30)  # finite, and its square is not
    with pytest.raises(NotFinite, match="the loss is inf, though every weight is finite, in step 1 of 6"):
        trained(made, new_run())


def test_a_norm_that_overflows_where_every_gradient_is_finite_is_said_to_be_just_that(new_run):
    made = task()
    made.model.second.register_hook(lambda grad: torch.full_like(grad, 1.5e38))  # two micro-batches: 3e38
    with pytest.raises(NotFinite, match="the norm of the gradient is not finite, though every gradient is"):
        trained(made, new_run())


def test_weights_of_mixed_precision_are_looked_through_and_large_ones_are_no_error():
    model = Pair()
    model.rough = nn.Parameter(torch.full((3,), 2.0, dtype=torch.bfloat16))
    require_finite_weights(model, "now")
    model.first.data.fill_(3e38)  # the norm overflows
    require_finite_weights(model, "now")
    model.rough.data[2] = torch.nan
    with pytest.raises(NotFinite, match="the weight rough is not finite now"):
        require_finite_weights(model, "now")


def test_rows_of_a_rollout_are_named():
    fine, spoilt = torch.zeros(3), torch.zeros(3, 2)
    require_finite_rows({"fine": fine, "other": spoilt}, "rollout 7")
    spoilt[1, 0] = torch.inf
    spoilt[2, 1] = torch.nan
    with pytest.raises(NotFinite, match="other is not finite in row 1, 2 of rollout 7"):
        require_finite_rows({"fine": fine, "other": spoilt}, "rollout 7")


def test_a_batch_of_text_is_named_by_its_windows():
    windows = Windows(torch.arange(40), 5, seed=0)
    text = TextOnly(windows, batch_rows=3, num_steps=4)
    for _, batch in zip(range(2), text, strict=False):
        assert len(batch[0].tokens_BT) == 3
    assert text.place == "windows 4 to 6 of the text"
    mixed = Mixed(Epochs(2, list, batch_rows=2, num_epochs=1, seed=0), windows, 2)  # type: ignore[arg-type]
    next(iter(mixed))
    assert mixed.place.endswith("of the data; windows 7 to 8 of the text")


def test_in_bfloat16_a_gradient_is_named_as_the_weight_it_is_of(new_run):
    made = task()
    lower(made.model, torch.bfloat16)
    made.model.second.register_hook(lambda gradient: gradient / 0)
    optimizer = torch.optim.SGD([master(weight) for weight in made.model.parameters()], lr=0.01)
    with pytest.raises(NotFinite, match="the gradient of second is not finite, in step 1 of 6"):
        fit(made, optimizer, lambda _: 1.0, EVERY_STEP, new_run())
    require_finite_weights(made.model, "here")
    assert master(made.model.first).tolist() == [1.0, 1.0]
    master(made.model.first).data[0] = torch.nan
    with pytest.raises(NotFinite, match="the weight first is not finite here"):
        require_finite_weights(made.model, "here")
