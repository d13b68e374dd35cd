import pytest
import torch

from instructloop.train.language import PretrainConfig, held_out_loss, pack, pretrain, windows_of
from instructloop.train.streams import Windows
from tests.tiny import tiny_lm

CONFIG = PretrainConfig(
    context=12,
    batch_rows=4,
    num_steps=40,
    lr=0.01,
    matrix_lr=0.02,
    warmup_steps=4,
    decay_from=0.5,
    adam_betas=(0.9, 0.95),
    weight_decay=0.1,
    max_grad_norm=1.0,
    seed=1,
)


def test_pretraining_learns_a_text_by_heart(new_run):
    model, text = tiny_lm(width=16)
    tokens_N = pack(["The dog says woof. "] * 40, text.document_ids)
    test = [Windows(tokens_N, 12, seed=5).take(8)]
    before = held_out_loss(model, test)
    assert pretrain(model, tokens_N, CONFIG, new_run(), track=None) == 40
    assert not model.training
    assert before > 3
    assert held_out_loss(model, test) < 0.5


def test_the_rate_goes_up_stays_and_falls_to_nothing():
    factors = [CONFIG.rate_factor(step) for step in range(41)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[20] == 1.0
    assert factors[30] == pytest.approx(0.5)
    assert factors[40] == 0.0


def test_documents_are_packed_whole_each_with_its_end():
    _, text = tiny_lm()
    tokens_N = pack(["The dog", "a cat"], text.document_ids)
    assert tokens_N.tolist() == text.document_ids("The dog") + text.document_ids("a cat")
    assert (tokens_N == text.eos_id).sum() == 2


def test_windows_take_no_more_documents_than_they_need():
    read: list[str] = []

    def encode(document: str) -> list[int]:
        read.append(document)
        return [int(document)] * 10

    documents = [str(i) for i in range(50)]
    windows = windows_of(documents, encode, length=6, num_windows=8, seed=2)
    assert len(read) == 6  # (8 + 2) windows of 5 targets and a first token: 51 of 60 tokens
    assert windows.num_windows >= 8
    assert len(set(windows.take(8).tokens_BT[:, 1:].flatten().tolist())) > 3
    other = windows_of(documents, encode, length=6, num_windows=8, seed=3)
    assert not torch.equal(other.tokens_N, windows.tokens_N)
    everything = windows_of(documents[:3], encode, length=6, num_windows=8, seed=2)
    assert len(everything.tokens_N) == 30  # fewer than wanted: several passes over all there is
    everything.take(8)
