"""One score per completion, at its last real token, the same in every batch, folder and library."""

import math

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from instructloop.models.hidden import is_packable
from instructloop.models.lm import disable_dropout
from instructloop.models.scalar import ScalarModel, Scorer
from instructloop.models.text import Text
from tests.tiny import tiny_lm, tiny_tokenizer

PAIRS = [("The dog", "woof woof"), ("What does the dog say?", ""), ("x", "The cat sleeps.")]
ARCHITECTURES = pytest.mark.parametrize("architecture", ["llama", "gpt2"])
PADS = pytest.mark.parametrize("pad_is_eos", [False, True])


def rows(text):
    return [text.prompt_ids(p) for p, _ in PAIRS], [text.completion_ids(c) for _, c in PAIRS]


def right_padded(text):
    return text.pad_right([p + c for p, c in zip(*rows(text), strict=True)])


@ARCHITECTURES
@PADS
@pytest.mark.parametrize("attention", ["sdpa", "eager"])  # rows in one packed row, and beside each other with padding
def test_a_score_depends_on_its_own_row_only(architecture: str, pad_is_eos: bool, attention: str):
    lm, lm_text = tiny_lm(architecture, pad_is_eos=pad_is_eos)
    model, text = ScalarModel.from_lm(lm, lm_text, seed=1)
    model.model.set_attn_implementation(attention)
    assert is_packable(model.model) == (attention == "sdpa")
    left_right_B = model.score(*text.pad_left_right(*rows(text))[:2])
    right_B = model.score(*right_padded(text))
    alone_B = torch.cat([model.score(*text.pad_right([p + c])) for p, c in zip(*rows(text), strict=True)])
    policy_padding_B = model.score(*lm_text.pad_left_right(*rows(lm_text))[:2])
    for score_B in (left_right_B, right_B, policy_padding_B):
        torch.testing.assert_close(score_B, alone_B, atol=1e-5, rtol=0)


def test_a_pad_id_that_is_eos_changes_no_score():
    found = []
    for pad_is_eos in (False, True):
        model, text = ScalarModel.from_lm(tiny_lm()[0], Text(tiny_tokenizer(pad_is_eos=pad_is_eos)), seed=1)
        assert text.pad_id not in text.stop_ids
        found.append(model.score(*right_padded(text)))
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=0)


def test_a_stop_token_that_is_spelled_like_our_pad_token_does_not_become_it():
    tokenizer = tiny_tokenizer(pad_is_eos=True)
    assert tokenizer.convert_tokens_to_ids("<|pad|>") == 1
    model, text = ScalarModel.from_lm(tiny_lm()[0], Text(tokenizer, stop_ids=[1]), seed=1)
    assert text.stop_ids == (0, 1)
    assert text.pad_id not in text.stop_ids
    assert model.model.config.pad_token_id == text.pad_id
    assert not model.model.get_input_embeddings().weight[text.pad_id].any()


@ARCHITECTURES
def test_the_score_is_the_value_at_the_last_real_token(architecture: str):
    model, text = ScalarModel.from_lm(*tiny_lm(architecture), seed=1)
    tokens_BT, attention_BT = right_padded(text)
    value_BT = model.per_token(tokens_BT, attention_BT)
    lengths = [len(p) + len(c) for p, c in zip(*rows(text), strict=True)]
    expected = [value_BT[row, length - 1].item() for row, length in enumerate(lengths)]
    assert model.score(tokens_BT, attention_BT).tolist() == pytest.approx(expected)
    changed_BT = tokens_BT.clone()
    changed_BT[:, 3:] = 50  # a value is known before the tokens after it (pitfall 16)
    torch.testing.assert_close(model.per_token(changed_BT, attention_BT)[:, :3], value_BT[:, :3])


def test_the_head_is_drawn_with_the_papers_spread_from_the_seed():
    model, _ = ScalarModel.from_lm(*tiny_lm(width=512), seed=1)
    again, _ = ScalarModel.from_lm(*tiny_lm(width=512), seed=1)
    other, _ = ScalarModel.from_lm(*tiny_lm(width=512), seed=2)
    weight_D = model.head.weight[0]
    assert weight_D.std().item() == pytest.approx(1 / math.sqrt(513), rel=0.1)  # 512 draws: 3 % standard error
    assert abs(weight_D.mean().item()) < 4 / 513  # four standard errors of the mean
    assert model.bias.item() == 0
    assert torch.equal(weight_D, again.head.weight[0])
    assert not torch.equal(weight_D, other.head.weight[0])


def test_making_a_scalar_model_moves_no_random_state_no_weight_and_no_tokenizer():
    lm, text = tiny_lm(pad_is_eos=True)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model, _ = ScalarModel.from_lm(lm, text, seed=1)
    assert torch.equal(torch.rand(3), expected)
    assert text.pad_id == text.eos_id  # the pad token that the scalar model got is its own
    assert len(text.tokenizer) == lm.config.vocab_size
    with torch.no_grad():
        model.model.base_model.embed_tokens.weight.add_(1.0)
    assert not torch.equal(model.model.base_model.embed_tokens.weight, lm.model.embed_tokens.weight)


@ARCHITECTURES
@PADS
def test_a_saved_model_scores_the_same_bias_included(architecture: str, pad_is_eos: bool, tmp_path):
    model, text = ScalarModel.from_lm(*tiny_lm(architecture, pad_is_eos=pad_is_eos), seed=1)
    before_B = model.score(*right_padded(text))
    model.shift(1.25)
    expected_B = model.score(*right_padded(text))
    torch.testing.assert_close(expected_B, before_B + 1.25)
    model.save(tmp_path, text)
    loaded, loaded_text = ScalarModel.load(tmp_path)
    torch.testing.assert_close(loaded.score(*right_padded(loaded_text)), expected_B, atol=1e-5, rtol=0)
    loaded.save(tmp_path / "again", loaded_text)
    again, _ = ScalarModel.load(tmp_path / "again")
    torch.testing.assert_close(again.score(*right_padded(text)), expected_B, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.score(*right_padded(text)), expected_B)  # saving changed nothing


def test_a_saved_model_closes_completions_with_the_same_stop_token(tmp_path):
    lm, text = tiny_lm()
    chat = "{% for m in messages %}{{ m.content + '<|begin|>' }}{% endfor %}"  # <|begin|>, id 2, ends a turn
    text = Text(tiny_tokenizer(chat_template=chat), stop_ids=[2, 17])
    model, own = ScalarModel.from_lm(lm, text, seed=1)
    model.save(tmp_path, own)
    loaded, loaded_text = ScalarModel.load(tmp_path)
    assert loaded_text.stop_ids == text.stop_ids == (0, 2, 17)
    assert loaded_text.completion_ids("woof") == text.completion_ids("woof")
    assert loaded_text.completion_ids("woof")[-1] == 2
    loaded_text.require_same_ids(text)
    expected = Scorer(model, own).scores([("The dog", "woof")])
    assert Scorer(loaded, loaded_text).scores([("The dog", "woof")]) == pytest.approx(expected, abs=1e-5)


@ARCHITECTURES
def test_disabled_dropout_makes_training_mode_equal_evaluation(architecture: str):
    model, text = ScalarModel.from_lm(*tiny_lm(architecture, dropout=0.5), seed=1)
    expected_B = model.score(*right_padded(text))
    model.train()
    assert not torch.allclose(model.score(*right_padded(text)), expected_B)
    disable_dropout(model)
    torch.testing.assert_close(model.score(*right_padded(text)), expected_B, atol=1e-6, rtol=0)


@PADS
def test_plain_transformers_gives_the_score_where_the_final_norm_has_a_bias(pad_is_eos: bool, tmp_path):
    model, text = ScalarModel.from_lm(*tiny_lm("gpt2", pad_is_eos=pad_is_eos), seed=1)
    model.shift(1.25)
    model.save(tmp_path, text)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    tokens_BT, attention_BT = right_padded(text)
    logits_B = plain(tokens_BT, attention_mask=attention_BT).logits[:, 0]
    torch.testing.assert_close(logits_B, model.score(tokens_BT, attention_BT), atol=1e-5, rtol=0)
    assert plain.config.num_labels == 1
    assert plain.config.pad_token_id == text.pad_id
    assert not hasattr(plain.config, "score_bias")


@PADS
def test_plain_transformers_gives_the_score_of_an_rmsnorm_model_as_decision_2_says(pad_is_eos: bool, tmp_path):
    model, text = ScalarModel.from_lm(*tiny_lm("llama", pad_is_eos=pad_is_eos), seed=1)
    model.shift(1.25)
    model.save(tmp_path, text)
    tokens_BT, attention_BT = right_padded(text)
    sequence = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    logits_B = sequence(tokens_BT, attention_mask=attention_BT).logits[:, 0]
    expected_B = model.score(tokens_BT, attention_BT)
    torch.testing.assert_close(logits_B + sequence.config.score_bias, expected_B, atol=1e-5, rtol=0)
    per_token = AutoModelForTokenClassification.from_pretrained(tmp_path)
    value_BT = per_token(tokens_BT, attention_mask=attention_BT).logits[..., 0]
    expected_BT = model.per_token(tokens_BT, attention_BT)
    torch.testing.assert_close(value_BT[attention_BT], expected_BT[attention_BT], atol=1e-5, rtol=0)


def test_a_folder_without_a_head_is_refused(tmp_path):
    lm, text = tiny_lm()
    lm.save_pretrained(tmp_path)
    text.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lacks weights of a reward model: \['score.weight'\]"):
        ScalarModel.load(tmp_path)
    with pytest.raises(ValueError, match="nothing is not a reward model"):
        ScalarModel.load(tmp_path / "nothing")


def test_the_bias_learns_as_part_of_a_value_function():
    model, text = ScalarModel.from_lm(*tiny_lm(), seed=1)
    tokens_BT, attention_BT = right_padded(text)
    model.per_token(tokens_BT, attention_BT).sum().backward()
    assert model.bias.grad.item() == attention_BT.sum()  # d(sum of values) / d(bias) = number of values


@ARCHITECTURES
def test_the_scorer_reads_text_as_training_reads_ids(architecture: str):
    model, text = ScalarModel.from_lm(*tiny_lm(architecture), seed=1)
    expected = model.score(*right_padded(text)).tolist()
    for batch_tokens in (1, 40, 8192):
        assert Scorer(model, text, batch_tokens=batch_tokens).scores(PAIRS) == pytest.approx(expected, abs=1e-5)
    cut = Scorer(model, text).scores([PAIRS[0]], finished=[False])
    unclosed = text.prompt_ids("The dog") + text.completion_ids("woof woof", close=False)
    assert cut == pytest.approx(model.score(*text.pad_right([unclosed])).tolist(), abs=1e-5)


def test_the_scorer_truncates_prompts_and_refuses_completions_over_the_context():
    model, text = ScalarModel.from_lm(*tiny_lm("gpt2", context=16), seed=1)
    long, short = Scorer(model, text).scores([("z" * 99 + "\nThe dog", "woof"), ("The dog", "woof")])
    assert long == pytest.approx(short, abs=1e-5)
    with pytest.raises(ValueError, match="context of 16"):
        Scorer(model, text).scores([("a", "z" * 16)])


def test_a_scorer_with_another_tokenizer_reads_the_text():
    with_bos = Text(tiny_tokenizer(bos=True))
    lm, _ = tiny_lm(bos=True)
    model, text = ScalarModel.from_lm(lm, with_bos, seed=1)
    assert Scorer(model, text).ids("a", "b") == [2, *Text(tiny_tokenizer()).prompt_ids("a"), *text.completion_ids("b")]
