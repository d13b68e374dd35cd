"""Steps over fixed places give what steps over the rows' own give; a few of them serve a whole rollout."""

import pytest
import torch

from instructloop.models import decode, graphed
from instructloop.models.graphed import GraphedForward
from tests.models.test_sampler import draw
from tests.tiny import tiny_lm


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[GraphedForward]:
    """Return what will hold every forward of fixed places; sampling uses them, with places that are soon full."""
    made: list[GraphedForward] = []

    class Remembered(GraphedForward):
        def __init__(self, *given):
            super().__init__(*given)
            made.append(self)

    monkeypatch.setattr(graphed, "LEAST_ROWS", 2)
    monkeypatch.setattr(graphed, "RANGE", 8)
    monkeypatch.setattr(decode, "LeanForward", Remembered)
    return made


@pytest.mark.parametrize(
    ("family", "batch_rows", "temperature"),
    [("llama", None, 1.3), ("llama", 5, 1.3), ("llama", 5, 0.0), ("qwen3", 5, 1.3)],
)
def test_samples_are_those_of_the_plain_steps(
    family: str, batch_rows: int | None, temperature: float, made: list[GraphedForward]
):
    model, text = tiny_lm(family)
    with pytest.MonkeyPatch.context() as plain:
        plain.setattr(decode, "LeanForward", graphed.LeanForward)
        expected = draw(model, text, temperature=temperature, batch_rows=batch_rows)
    assert not made
    samples = draw(model, text, temperature=temperature, batch_rows=batch_rows)
    assert samples.completions() == expected.completions()
    torch.testing.assert_close(samples.logprobs_BC, expected.logprobs_BC, atol=1e-5, rtol=0)
    [forward] = made
    assert {rows for rows, _, _ in forward.steps} <= {2, 4, 5, 8, 16, 24}
    assert all(first % 8 == 0 for _, first, _ in forward.steps)


def test_what_nobody_reads_may_hold_anything(made: list[GraphedForward]):
    model, text = tiny_lm("llama")
    forward = GraphedForward(model, 6, 32)
    alone = graphed.LeanForward(model, 1, 32)
    prompt = text.prompt_ids("The dog says")
    with torch.inference_mode():
        for one in (forward.keys, forward.values):
            one[:, :, :, len(prompt) :] = 1e4  # columns that come later, and slots of rows that left
            one[:, 1:] = 1e4
        first, expected = forward.join([prompt]), alone.join([prompt])
        torch.testing.assert_close(first, expected)
        for token in (5, 6, 7, 8):
            torch.testing.assert_close(forward.step([token]), alone.step([token]), atol=1e-5, rtol=1e-5)


def test_one_step_serves_many(made: list[GraphedForward]):
    model, text = tiny_lm("llama")
    draw(model, text, number=8, stop_ids=())  # eleven steps of eight rows
    [forward] = made
    assert len(forward.steps) <= 3


@pytest.mark.gpu
def test_a_recorded_step_is_the_step():
    model, text = tiny_lm("llama")
    plain = draw(model, text, max_new_tokens=24)
    recorded = draw(model.to("cuda"), text, max_new_tokens=24)
    torch.testing.assert_close(recorded.logprobs_BC.cpu(), plain.logprobs_BC, atol=1e-3, rtol=0)
