"""The families that people bring, made tiny on the spot: what is loaded, sampled, scored and saved means the same."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from instructloop.models.lm import completion_logprobs, load_lm, save_lm
from instructloop.models.sampler import sample
from instructloop.models.scalar import ScalarModel, Scorer
from instructloop.models.text import Text
from tests.tiny import tiny_lm, tiny_tokenizer

FAMILIES = ["llama", "gpt2", "gpt_neox", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "mistral"]
FAMILY = pytest.mark.parametrize("family", FAMILIES)
PROMPTS = ["The dog", "What does the dog say?\nThe dog says woof. A bird sings.", "x"]
COMPLETIONS = ["woof woof", "The cat sleeps. A fish swims.", ""]


def logits(model, ids):
    """One unpadded row, no cache: the definition."""
    with torch.no_grad():
        return model(torch.tensor([ids]), use_cache=False).logits[0].double()


def batch(text):
    rows = [text.prompt_ids(p) for p in PROMPTS], [text.completion_ids(c) for c in COMPLETIONS]
    return rows, text.pad_left_right(*rows)


@FAMILY
@pytest.mark.parametrize("tied", [True, False])
def test_logprobs_under_left_padding_are_those_of_the_row_alone(family: str, tied: bool):
    model, text = tiny_lm(family, tied=tied)
    (prompts, completions), (tokens_BT, attention_BT, mask_BC) = batch(text)
    found_BC = completion_logprobs(model, tokens_BT, attention_BT, mask_BC.shape[1], temperature=1.0)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        logprobs_TV = logits(model, [*prompt, *completion]).log_softmax(-1)
        expected = [logprobs_TV[len(prompt) + i - 1, token].item() for i, token in enumerate(completion)]
        assert found_BC[row][mask_BC[row]].tolist() == pytest.approx(expected, abs=2e-5)


@FAMILY
def test_the_most_likely_tokens_of_a_padded_batch_are_those_of_the_row_alone(family: str):
    model, text = tiny_lm(family, seed=3)
    prompts = [text.prompt_ids(prompt) for prompt in PROMPTS]
    samples = sample(model, text, prompts, max_new_tokens=12, temperature=0, seeds=[0, 0, 0])
    for prompt, found in zip(prompts, samples.completions(), strict=True):
        ids = list(prompt)
        while len(ids) < len(prompt) + 12 and (len(ids) == len(prompt) or ids[-1] not in text.stop_ids):
            ids.append(int(logits(model, ids)[-1].argmax()))
        assert found == ids[len(prompt) :]


@FAMILY
def test_a_policy_comes_back_from_its_folder_and_from_plain_transformers(family: str, tmp_path: Path):
    model, text = tiny_lm(family, tied=False)
    save_lm(model, text, tmp_path)
    ids = text.prompt_ids("The dog says")
    for other in (load_lm(tmp_path)[0], AutoModelForCausalLM.from_pretrained(tmp_path).eval()):
        torch.testing.assert_close(logits(other, ids), logits(model, ids), atol=1e-6, rtol=0)


@FAMILY
def test_a_reward_model_gives_the_same_score_in_plain_transformers(family: str, tmp_path: Path):
    model, text = ScalarModel.from_lm(*tiny_lm(family), seed=1)
    model.shift(0.75)
    expected = Scorer(model, text).scores(list(zip(PROMPTS, COMPLETIONS, strict=True)))
    model.save(tmp_path, text)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    (prompts, completions), _ = batch(text)
    for prompt, completion, score in zip(prompts, completions, expected, strict=True):
        with torch.no_grad():
            logit = plain(torch.tensor([[*prompt, *completion]])).logits[0, 0].item()
        assert logit + getattr(plain.config, "score_bias", 0.0) == pytest.approx(score, abs=1e-5)
    assert Scorer.load(tmp_path).scores(list(zip(PROMPTS, COMPLETIONS, strict=True))) == pytest.approx(
        expected, abs=1e-5
    )


def test_any_of_several_eos_ids_ends_a_sample(tmp_path: Path):
    model, text = tiny_lm(seed=5)
    prompt = text.prompt_ids("The dog")
    free = sample(model, text, [prompt], max_new_tokens=6, temperature=0, seeds=[0], stop_ids=()).completions()[0]
    second = free[2]
    save_lm(model, text, tmp_path)
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": [0, second]}))
    loaded, loaded_text = load_lm(tmp_path)
    assert loaded_text.stop_ids == tuple(sorted({0, second}))
    found = sample(loaded, loaded_text, [prompt], max_new_tokens=6, temperature=0, seeds=[0])
    assert found.completions()[0] == free[: free.index(second) + 1]
    assert bool(found.finished_B[0])


def damaged(tmp_path: Path) -> Path:
    model, text = tiny_lm(tied=False)
    save_lm(model, text, tmp_path)
    return tmp_path


def changed(folder: Path, **values: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:5000]), "covered"),
        (lambda d: changed(d, hidden_size=64), "disagree about sizes"),
        (lambda d: changed(d, num_hidden_layers=3), r"lacks weights of a language model: \['model.layers.2"),
        (lambda d: changed(d, model_type="nope", auto_map={"AutoModelForCausalLM": "evil.Model"}), "nope"),
        (lambda d: (d / "config.json").write_text("{"), "valid JSON"),
        (lambda d: (d / "tokenizer.json").write_text("{}"), "not a causal language model with a tokenizer"),
        (lambda d: [path.unlink() for path in d.glob("tokenizer*")], "not a causal language model with a tokenizer"),
        (lambda d: (d / "chat_template.jinja").write_text("{% if %}"), "chat template cannot write user, assistant"),
    ],
)
def test_a_damaged_folder_is_one_error_that_says_why(tmp_path: Path, damage, message: str):
    folder = damaged(tmp_path)
    damage(folder)
    with pytest.raises(ValueError, match=message):
        load_lm(folder)


def test_a_template_that_adds_bos_where_the_tokenizer_adds_it_gives_one(tmp_path: Path):
    model, _ = tiny_lm()
    template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    save_lm(model, Text(tiny_tokenizer(bos=True, chat_template=template)), tmp_path)
    ids = load_lm(tmp_path)[1].prompt_ids("The dog")
    assert ids[0] == 2
    assert ids.count(2) == 1
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}" + template)
    with pytest.raises(ValueError, match="BOS twice"):
        load_lm(tmp_path)


def test_a_reward_model_is_no_policy(tmp_path: Path):
    model, text = ScalarModel.from_lm(*tiny_lm(), seed=1)
    model.save(tmp_path, text)
    with pytest.raises(ValueError, match="is a reward model, not a language model"):
        load_lm(tmp_path)
