"""A language model made from nothing depends on its seed alone and lives in a plain folder."""

import pytest
import torch

from instructloop.models.lm import load_lm, save_lm
from instructloop.models.scratch import new_lm
from instructloop.models.text import Text
from tests.tiny import tiny_tokenizer

SIZE = {"width": 16, "layers": 1, "heads": 2, "context": 32}


def test_weights_depend_on_the_seed_alone_and_survive_the_folder(tmp_path):
    text = Text(tiny_tokenizer())
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
