"""vLLM behind our sampler's interface. A stand-in takes its place: the calls are checked here, the engine is not."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from instructloop.models.adapters import add_adapter
from instructloop.models.lm import completion_logprobs, load_lm, save_lm
from instructloop.models.lora import Lora
from instructloop.models.sampler import sample
from instructloop.models.text import Text
from instructloop.models.vllm_sampler import VllmSampler
from tests.stages.small import workspace
from tests.stages.test_s7_ppo import CONFIG, parents, ppo
from tests.tiny import tiny_lm


class LLM:
    """Answers as vLLM's class of this name does, with transformers' forward over the whole row at each step."""

    def __init__(self, **settings: Any):
        self.settings, self.num_resets = settings, 0
        self.model, _ = load_lm(settings["model"])
        self.model.eval()
        self.model.load_weights = self._load_weights

    def _load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        own = dict(self.model.named_parameters())
        given = dict(weights)
        assert given.keys() == own.keys()
        with torch.no_grad():
            for name, weight in given.items():
                own[name].copy_(weight)
        return set(given)

    def apply_model(self, function: Callable[[nn.Module], Any]) -> list[Any]:
        return [function(self.model)]

    def reset_prefix_cache(self) -> None:
        self.num_resets += 1

    @torch.no_grad()
    def generate(self, prompts: list[dict[str, list[int]]], settings: list[Any], *, use_tqdm: bool) -> list[Any]:
        assert not use_tqdm
        return [self._completed(*one) for one in zip(prompts, settings, strict=True)]

    def _completed(self, prompt: dict[str, list[int]], setting: Any) -> Any:
        generator, tokens, logprobs = torch.Generator().manual_seed(setting.seed), [], []
        while len(tokens) < setting.max_tokens:
            logits_V = self.model(torch.tensor([prompt["prompt_token_ids"] + tokens])).logits[0, -1]
            logprobs_V = (logits_V / setting.temperature).log_softmax(-1)
            token = int(torch.multinomial(logprobs_V.exp(), 1, generator=generator))
            tokens.append(token)
            logprobs.append({token: SimpleNamespace(logprob=float(logprobs_V[token]))})
            if token in setting.stop_token_ids:
                break
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=tokens, logprobs=logprobs)])


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(LLM=LLM, SamplingParams=lambda **settings: SimpleNamespace(**settings))
    monkeypatch.setitem(sys.modules, "vllm", module)


def sampler_of(tmp_path: Path, model, text: Text) -> VllmSampler:
    save_lm(model, text, tmp_path / "model")
    return VllmSampler(tmp_path / "model", dtype="float32", max_tokens=64)


def draw(sampler: Any, model, text: Text, **changes: Any):
    prompts = [text.prompt_ids(words) for words in ("The dog", "A cat says meow", "The dog")]
    settings = {"max_new_tokens": 12, "temperature": 0.7, "seeds": [1, 2**64 - 1, 3], "stop_ids": tuple(range(40))}
    return sampler(model, text, prompts, **settings | changes)


@pytest.mark.parametrize("lora", [None, Lora(rank=2, alpha=4.0, targets="all-linear")], ids=["whole", "adapter"])
def test_samples_are_of_the_policy_as_it_is_now_with_its_own_logprobs(tmp_path: Path, lora: Lora | None):
    model, text = tiny_lm()
    sampler = sampler_of(tmp_path, model, text)
    if lora is not None:
        add_adapter(model.requires_grad_(False), lora, seed=1)
    before = draw(sampler, model, text)
    with torch.no_grad():  # what an optimizer step would do
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    samples = draw(sampler, model, text)
    assert samples.completions() != before.completions()
    learned_BC = completion_logprobs(
        model, samples.tokens_BT, samples.attention_BT, samples.mask_BC.shape[1], temperature=0.7
    )
    torch.testing.assert_close(samples.logprobs_BC, torch.where(samples.mask_BC, learned_BC, 0), atol=1e-5, rtol=0)
    ends = [row[-1] for row in samples.completions()]
    assert samples.finished_B.tolist() == [end < 40 for end in ends]
    assert sampler._engine.num_resets == 2


def test_it_has_the_shapes_of_our_own_sampler_and_a_stream_for_each_row(tmp_path: Path):
    model, text = tiny_lm()
    sampler = sampler_of(tmp_path, model, text)
    heard: list[int] = []
    samples = draw(sampler, model, text, stop_ids=(), on_rows=heard.append)
    own = draw(sample, model, text, stop_ids=())
    for name in ("tokens_BT", "attention_BT", "mask_BC", "logprobs_BC", "finished_B"):
        theirs, ours = getattr(samples, name), getattr(own, name)
        assert (theirs.shape, theirs.dtype) == (ours.shape, ours.dtype), name
    first, _, third = samples.completions()
    assert first != third  # of one prompt
    assert samples.completions() == draw(sampler, model, text, stop_ids=()).completions()
    assert heard == [3]


def test_the_engine_runs_no_code_of_the_model_s_folder_and_gives_logprobs_after_the_temperature(tmp_path: Path):
    settings = sampler_of(tmp_path, *tiny_lm())._engine.settings
    assert settings["trust_remote_code"] is False
    assert settings["logprobs_mode"] == "processed_logprobs"
    assert (settings["dtype"], settings["max_model_len"]) == ("float32", 64)


def test_without_vllm_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ValueError, match=r"pip install 'instructloop\[vllm\]'"):
        sampler_of(tmp_path, *tiny_lm())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "must be above 0"),
        ({"seeds": [1]}, "1 seeds for 3"),
        ({"max_new_tokens": 64}, "the model's context is 64"),
    ],
)
def test_what_it_cannot_do_is_refused(changes: dict[str, Any], message: str, tmp_path: Path):
    model, text = tiny_lm()
    sampler = sampler_of(tmp_path, model, text)
    with pytest.raises(ValueError, match=message):
        draw(sampler, model, text, **changes)


def test_ppo_learns_from_its_rollouts_and_is_stopped_where_they_are_of_older_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = CONFIG.model_copy(update={"engine": "vllm"})
    space = workspace(tmp_path / "right")
    run = ppo(space, config, parents(space))
    assert [row["rollout/ratio"] for row in run.metrics()] == pytest.approx([1.0, 1.0, 1.0], abs=1e-5)
    monkeypatch.setattr(VllmSampler, "_take_weights", lambda *_: None)
    space = workspace(tmp_path / "stale")
    with pytest.raises(ValueError, match="rollout"):
        ppo(space, config, parents(space))
