"""Schedules: their ends, their middle, and another library's curve."""

import pytest
import torch

from instructloop.core.schedules import constant_after_warmup, cosine_to_tenth


def test_cosine_begins_at_the_peak_and_ends_at_a_tenth():
    assert cosine_to_tenth(0, 40) == pytest.approx(1.0)
    assert cosine_to_tenth(20, 40) == pytest.approx(0.55)  # .1 + .9 / 2
    assert cosine_to_tenth(40, 40) == pytest.approx(0.1)


def test_cosine_is_the_curve_of_torch():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=17, eta_min=0.1)
    for step in range(18):
        assert cosine_to_tenth(step, 17) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(("step", "total"), [(-1, 10), (11, 10), (0, 0)])
def test_a_step_outside_the_run_is_refused(step: int, total: int):
    with pytest.raises(ValueError, match=f"step {step}"):
        cosine_to_tenth(step, total)


def test_warmup_is_a_line_from_a_tenth_to_the_constant():
    factors = [constant_after_warmup(step, 10) for step in (0, 1, 5, 10, 11, 10_000)]
    assert factors == pytest.approx([0.1, 0.19, 0.55, 1.0, 1.0, 1.0])  # .1 + .9 * step / 10


def test_no_warmup_is_the_constant_at_once():
    assert constant_after_warmup(0, 0) == 1.0


def test_warmup_may_start_elsewhere_and_refuses_negative_steps():
    assert constant_after_warmup(1, 4, start=0.5) == pytest.approx(0.625)
    with pytest.raises(ValueError, match="negative"):
        constant_after_warmup(-1, 4)
