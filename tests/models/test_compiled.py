"""Layers compiled by torch: the same losses and gradients, compiled once for all lengths, and what is refused."""

import shutil
from typing import Any

import pytest
import torch

from instructloop.models import compiled, hidden
from instructloop.models.adapters import add_adapter
from instructloop.models.compiled import compile_layers
from instructloop.models.lm import completion_logprobs, disable_dropout, residual_dropout
from instructloop.models.lora import Lora
from instructloop.models.masters import lower, master
from instructloop.models.recomputing import recompute_activations
from instructloop.models.sampler import sample
from tests.tiny import tiny_lm

PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]
COMPLETIONS = [[20, 21, 22, 0], [23, 0], [24, 25, 26]]


@pytest.fixture(autouse=True)
def forgotten():
    """What one test has compiled is not there for the next."""
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def measured(model: Any, text: Any, rows: slice = slice(None)) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return log-probabilities of the completions and every weight's gradient of their sum."""
    tokens_BT, attention_BT, mask_BC = text.pad_left_right(PROMPTS[rows], COMPLETIONS[rows])
    found = completion_logprobs(model, tokens_BT, attention_BT, mask_BC.shape[1], temperature=1.0)[mask_BC]
    for weight in model.parameters():
        master(weight).grad = None
    found.sum().backward()
    return found.detach(), [master(weight).grad.clone() for weight in model.parameters()]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "gemma3_text"])
def test_losses_and_gradients_are_the_same(family: str):
    model, text = tiny_lm(family)
    expected, gradients = measured(model, text)
    compile_layers(model, backend="eager")
    found, again = measured(model, text)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    for one, other in zip(again, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_other_lengths_are_not_compiled_again_nor_does_the_last_layer_take_part():
    model, text = tiny_lm()
    calls: list[int] = []

    def backend(graph: Any, _: Any) -> Any:
        calls.append(1)
        return graph.forward

    compile_layers(model, backend=backend)  # type: ignore[arg-type]
    assert [layer._compiled_call_impl is not None for layer in model.model.layers] == [True, False]
    for rows in (slice(0, 3), slice(0, 2)):
        measured(model, text, rows)
        if rows.stop == 3:
            num_compiled = len(calls)
    assert len(calls) == num_compiled > 0


@pytest.mark.slow
def test_sampling_gives_what_it_gave():
    model, text = tiny_lm()
    expected = sample(model, text, PROMPTS, max_new_tokens=5, temperature=1.0, seeds=[1, 2, 3])
    compile_layers(model, backend="eager")
    found = sample(model, text, PROMPTS, max_new_tokens=5, temperature=1.0, seeds=[1, 2, 3])
    assert torch.equal(found.tokens_BT, expected.tokens_BT)


@pytest.mark.slow
def test_dropout_between_layers_is_there_while_it_is_asked_for():
    model, text = tiny_lm()
    disable_dropout(model)
    expected, _ = measured(model, text)
    compile_layers(model, backend="eager")
    model.train()
    with residual_dropout(model, 0.3):
        first, again = (measured(model, text)[0] for _ in range(2))
        assert not torch.equal(first, again)
        torch.testing.assert_close(measured(model.eval(), text)[0], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(measured(model.train(), text)[0], expected, rtol=0, atol=1e-5)


def test_what_cannot_be_compiled_is_refused_in_words(monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr(hidden, "FAMILIES", frozenset[str]())
        with pytest.raises(ValueError, match="layers of a llama are not known; leave it out"):
            compile_layers(tiny_lm()[0])
    adapted, _ = tiny_lm()
    add_adapter(adapted, Lora(rank=2, alpha=4, targets="all-linear"), seed=1)
    with pytest.raises(ValueError, match="adapters take turns"):
        compile_layers(adapted)
    recomputed, _ = tiny_lm()
    recompute_activations(recomputed)
    with pytest.raises(ValueError, match="gradient_checkpointing"):
        compile_layers(recomputed)
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="install g\\+\\+ or clang"):
        compiled.require_compiler()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a processor with g++")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loops_that_are_compiled_give_the_same(dtype: torch.dtype):
    model, text = tiny_lm()
    lower(model, dtype)
    expected, gradients = measured(model, text)
    compile_layers(model)
    found, again = measured(model, text)
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    for one, other in zip(again, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.abs().max() + 1e-3))
