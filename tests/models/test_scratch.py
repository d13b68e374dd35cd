"""A language model made from nothing depends on its seed alone and lives in a plain folder."""

import pytest
import torch

from instructloop.models.lm import load_lm, save_lm
from instructloop.models.scratch import new_lm, train_tokenizer

SIZE = {"width": 16, "layers": 1, "heads": 2, "context": 32}


def test_any_text_survives_the_tokenizer_and_frequent_words_are_one_token():
    text = train_tokenizer(["the dog barks at the cat"] * 5, vocabulary=280)
    assert text.decode(text.completion_ids("Übermut, 猫 \n dog")) == "Übermut, 猫 \n dog"
    assert len(text.completion_ids(" the", close=False)) == 1
    assert len(text.tokenizer) <= 280
    with pytest.raises(ValueError, match="vocabulary 100 must be at least 258"):
        train_tokenizer(["a"], vocabulary=100)


def test_weights_depend_on_the_seed_alone_and_survive_the_folder(tmp_path):
    text = train_tokenizer(["the dog"], vocabulary=260)
    torch.manual_seed(1)
    model = new_lm(text, **SIZE, seed=3)
    torch.manual_seed(2)
    again, other = new_lm(text, **SIZE, seed=3), new_lm(text, **SIZE, seed=4)
    assert torch.equal(model.lm_head.weight, again.lm_head.weight)
    assert not torch.equal(model.lm_head.weight, other.lm_head.weight)
    save_lm(model, text, tmp_path)
    assert torch.equal(load_lm(tmp_path)[0].lm_head.weight, model.lm_head.weight)
    with pytest.raises(ValueError, match="width 18"):
        new_lm(text, **SIZE | {"width": 18}, seed=3)
