"""Log-probabilities of completions mean the same whatever the padding, the architecture and the folder."""

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from instructloop.models.lm import (
    completion_logprobs,
    disable_dropout,
    load_lm,
    residual_dropout,
    save_lm,
)
from instructloop.models.text import Text
from tests.tiny import tiny_lm, tiny_tokenizer

PROMPTS, COMPLETIONS = ["The dog", "What does the dog say?", "x"], ["woof woof", "", "The cat sleeps."]


def batch(text):
    rows = [text.prompt_ids(p) for p in PROMPTS], [text.completion_ids(c) for c in COMPLETIONS]
    return text.pad_left_right(*rows)


def by_hand(model, prompt_ids, completion_ids, temperature):
    """The definition, one unpadded row, one full softmax per position."""
    with torch.no_grad():
        logits_TV = model(torch.tensor([[*prompt_ids, *completion_ids]])).logits[0].double() / temperature
    logprobs_TV = logits_TV.log_softmax(-1)
    first = len(prompt_ids)
    return [logprobs_TV[first + i - 1, token].item() for i, token in enumerate(completion_ids)]


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.3])
def test_logprobs_are_those_of_the_unpadded_row(architecture: str, tied: bool, temperature: float):
    model, text = tiny_lm(architecture, tied=tied)
    tokens_BT, attention_BT, mask_BC = batch(text)
    found_BC = completion_logprobs(model, tokens_BT, attention_BT, mask_BC.shape[1], temperature=temperature)
    for row, (prompt, completion) in enumerate(zip(PROMPTS, COMPLETIONS, strict=True)):
        expected = by_hand(model, text.prompt_ids(prompt), text.completion_ids(completion), temperature)
        assert found_BC[row][mask_BC[row]].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_left_pads_change_neither_logprobs_nor_gradients(architecture: str):
    model, text = tiny_lm(architecture)
    tokens_BT, attention_BT, mask_BC = batch(text)

    def measure(num_pads: int):
        pads = torch.full((len(tokens_BT), num_pads), 77)
        tokens, attention = torch.cat([pads, tokens_BT], 1), torch.cat([pads < 0, attention_BT], 1)
        model.zero_grad()
        logprobs_BC = completion_logprobs(model, tokens, attention, mask_BC.shape[1], temperature=1.0)
        logprobs_BC[mask_BC].sum().backward()
        return logprobs_BC[mask_BC].detach(), next(model.parameters()).grad.clone()

    logprobs, gradient = measure(0)
    for num_pads in (1, 2, 9):
        padded_logprobs, padded_gradient = measure(num_pads)
        torch.testing.assert_close(padded_logprobs, logprobs, atol=1e-5, rtol=0)
        torch.testing.assert_close(padded_gradient, gradient, atol=1e-4, rtol=1e-4)  # sums of hundreds of terms


def test_pad_as_eos_gives_the_same_logprobs_and_gradients(tmp_path):
    found = {}
    for pad_is_eos in (False, True):
        model, _ = tiny_lm()
        text = Text(tiny_tokenizer(pad_is_eos=pad_is_eos))
        model.config.pad_token_id = text.pad_id
        save_lm(model, text, tmp_path / str(pad_is_eos))
        model, text = load_lm(tmp_path / str(pad_is_eos))
        tokens_BT, attention_BT, mask_BC = batch(text)
        tokens_BT[:, -mask_BC.shape[1]] = text.eos_id  # EOS is read as an input, too
        logprobs_BC = completion_logprobs(model, tokens_BT, attention_BT, mask_BC.shape[1], temperature=1.0)
        logprobs_BC[mask_BC].sum().backward()
        found[pad_is_eos] = logprobs_BC[mask_BC], model.get_input_embeddings().weight.grad[text.eos_id]
    torch.testing.assert_close(found[True][0], found[False][0], atol=1e-6, rtol=0)
    torch.testing.assert_close(found[True][1], found[False][1], atol=1e-5, rtol=1e-5)


def test_bad_lengths_and_temperatures_are_refused():
    model, text = tiny_lm()
    tokens_BT, attention_BT, mask_BC = batch(text)
    with pytest.raises(ValueError, match="temperature 0"):
        completion_logprobs(model, tokens_BT, attention_BT, mask_BC.shape[1], temperature=0)
    for length in (0, tokens_BT.shape[1]):
        with pytest.raises(ValueError, match="completion_length"):
            completion_logprobs(model, tokens_BT, attention_BT, length, temperature=1.0)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_saved_models_are_plain_folders(architecture: str, tmp_path):
    model, text = tiny_lm(architecture, bos=True)
    save_lm(model, text, tmp_path, about="# Tiny\nMade by a test.", tags=["sft"])
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    loaded, loaded_text = load_lm(tmp_path)
    tokens_BT, attention_BT, mask_BC = batch(text)
    expected_BC = completion_logprobs(model, tokens_BT, attention_BT, mask_BC.shape[1], temperature=1.0)
    for other in (plain, loaded):
        found_BC = completion_logprobs(other, tokens_BT, attention_BT, mask_BC.shape[1], temperature=1.0)
        assert torch.equal(found_BC[mask_BC], expected_BC[mask_BC])
    assert loaded_text.prompt_ids("Hi") == text.prompt_ids("Hi")
    turn = [{"role": "user", "content": "Hi"}]
    ids = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(turn, add_generation_prompt=True)["input_ids"]
    assert ids == text.prompt_ids("Hi")  # what a user of plain transformers feeds is what training saw
    assert plain.generation_config.eos_token_id == [text.eos_id]
    front = (tmp_path / "README.md").read_text().split("---\n")
    assert yaml.safe_load(front[1]) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["instructloop", "sft"],
    }
    assert front[2].strip() == "# Tiny\nMade by a test."
    assert {p.name for p in tmp_path.iterdir()} >= {"model.safetensors", "generation_config.json", "tokenizer.json"}


def test_stop_ids_come_from_the_generation_config(tmp_path):
    model, text = tiny_lm()
    save_lm(model, text, tmp_path)
    model.generation_config.eos_token_id = [0, 17]
    model.generation_config.save_pretrained(tmp_path)
    assert load_lm(tmp_path)[1].stop_ids == (0, 17)


def test_what_is_no_model_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"empty is not a causal language model"):
        load_lm(tmp_path / "empty")
    model, _ = tiny_lm()
    model.save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match=r"bare is not a causal language model with a tokenizer"):
        load_lm(tmp_path / "bare")


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_disabled_dropout_makes_training_mode_equal_evaluation(architecture: str):
    model, text = tiny_lm(architecture, dropout=0.5)
    tokens_BT, attention_BT, mask_BC = batch(text)

    def logprobs():
        return completion_logprobs(model, tokens_BT, attention_BT, mask_BC.shape[1], temperature=1.0)[mask_BC]

    expected = logprobs()
    model.train()
    assert not torch.allclose(logprobs(), expected)
    disable_dropout(model)
    torch.testing.assert_close(logprobs(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_residual_dropout_acts_in_training_only_and_leaves_no_trace(architecture: str):
    model, text = tiny_lm(architecture)
    tokens_BT, attention_BT, _ = batch(text)

    def logits():
        return model(tokens_BT, attention_mask=attention_BT).logits

    expected = logits()
    with residual_dropout(model, 0.2):
        assert torch.equal(logits(), expected)
        model.train()
        assert not torch.allclose(logits(), expected)
    assert torch.equal(logits(), expected)


def test_residual_dropout_without_effect_is_refused():
    with pytest.raises(ValueError, match="no effect"), residual_dropout(torch.nn.Linear(2, 2), 0.2):
        pass
    with pytest.raises(ValueError, match=r"dropout 1\.0"), residual_dropout(tiny_lm()[0], 1.0):
        pass
