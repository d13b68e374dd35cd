"""Batches: rows keep together what belongs together; every ranking weighs one, whatever its number of comparisons."""

import pytest
import torch

from instructloop.core.batches import LMBatch, RankedBatch, Rollout, pair_rows, to_device


def rollout(rows: int) -> Rollout:
    """Return a rollout in which every tensor holds the number of its row."""
    row_B1 = torch.arange(rows)[:, None]
    real_BC = row_B1.float().expand(rows, 3)
    true_BT = torch.ones(rows, 5, dtype=torch.bool)
    return Rollout(row_B1.expand(rows, 5), true_BT, true_BT[:, :3], real_BC, real_BC, real_BC, real_BC)


def test_rows_takes_the_same_rows_of_every_tensor():
    minibatch = rollout(4).rows(torch.tensor([2, 0]))
    for name in ("tokens_BT", "logprobs_BC", "value_BC", "advantage_BC", "return_BC"):
        assert getattr(minibatch, name)[:, 0].tolist() == [2, 0], name
    assert minibatch.mask_BC.shape == (2, 3)
    assert minibatch.attention_BT.shape == (2, 5)


def test_rows_of_text_keep_tokens_and_mask_together():
    batch = LMBatch(
        torch.tensor([[1, 2, 3], [4, 5, 6]]),
        torch.tensor([[True, True, True], [False, True, True]]),
        torch.tensor([[True, True], [True, False]]),
    )
    last = batch.rows(torch.tensor([1]))
    assert last.tokens_BT.tolist() == [[4, 5, 6]]
    assert last.attention_BT.tolist() == [[False, True, True]]
    assert last.mask_BC.tolist() == [[True, False]]


def test_a_ranking_of_four_with_one_tie_has_five_comparisons_of_a_fifth():
    winner_N, loser_N, weight_N = pair_rows([[[0], [1, 2], [3]]])
    pairs = set(zip(winner_N.tolist(), loser_N.tolist(), strict=True))
    assert pairs == {(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)}
    assert weight_N.tolist() == pytest.approx([0.2] * 5)


def test_every_ranking_weighs_one_and_an_all_tied_one_nothing():
    rankings = [[[0], [1]], [[2, 3, 4]], [[5], [6], [7], [8]]]
    winner_N, loser_N, weight_N = pair_rows(rankings)
    assert float(weight_N.sum()) == pytest.approx(2.0)
    assert len(winner_N) == len(loser_N) == 1 + 6
    assert not {2, 3, 4} & {*winner_N.tolist(), *loser_N.tolist()}


def test_no_ranking_gives_no_comparison_of_the_right_types():
    winner_N, loser_N, weight_N = pair_rows([])
    assert winner_N.shape == loser_N.shape == weight_N.shape == (0,)
    assert winner_N.dtype == torch.int64
    assert weight_N.dtype == torch.float32


def test_moving_a_batch_moves_every_tensor():
    winner_N, loser_N, weight_N = pair_rows([[[0], [1]]])
    tokens_BT = torch.zeros(2, 3, dtype=torch.int64)
    moved = to_device(RankedBatch(tokens_BT, tokens_BT == 0, tokens_BT[:, 0], winner_N, loser_N, weight_N), "meta")
    assert {getattr(moved, name).device.type for name in moved.__slots__} == {"meta"}
