import itertools
from collections import Counter

import pytest
import torch

from instructloop.core.batches import LMBatch
from instructloop.train.streams import Epochs, Mixed, Windows, derived_seed
from instructloop.train.trim import micro_batches, trimmed


def epochs(**overrides) -> Epochs:
    return Epochs(7, list, **{"batch_rows": 3, "num_epochs": 2, "seed": 1, **overrides})


def test_every_row_comes_once_an_epoch_and_epochs_differ_in_order():
    batches = list(epochs())
    assert [len(batch) for batch in batches] == [3, 3, 1, 3, 3, 1]
    first, second = (list(itertools.chain(*half)) for half in (batches[:3], batches[3:]))
    assert sorted(first) == sorted(second) == list(range(7))
    assert first != second


def test_order_depends_on_the_seed_alone():
    assert list(epochs()) == list(epochs())
    assert list(epochs()) != list(epochs(seed=2))


@pytest.mark.parametrize("stop", range(7))
def test_epochs_resume_after_any_batch(stop: int):
    whole = list(epochs())
    first, second = epochs(), epochs()
    given = list(itertools.islice(first, stop))
    second.load_state_dict(first.state_dict())
    assert given + list(second) == whole


def test_no_row_is_refused():
    with pytest.raises(ValueError, match="0 rows"):
        Epochs(0, list, batch_rows=1, num_epochs=1, seed=0)


def test_each_token_is_a_target_once_a_pass():
    tokens = torch.arange(50, dtype=torch.int32)
    windows = Windows(tokens, 6, seed=3)  # 49 targets, 5 a window: 9 windows whole, one given up for the random offset
    assert windows.num_windows == 8
    batch = windows.take(8)
    targets = Counter(batch.tokens_BT[:, 1:].flatten().tolist())
    assert set(targets.values()) == {1}
    assert max(targets) - min(targets) == 39  # 8 windows x 5 targets in a row
    assert (batch.tokens_BT[:, 1:] - batch.tokens_BT[:, :-1] == 1).all()
    assert batch.mask_BC.shape == (8, 5)
    assert batch.mask_BC.all()


def test_passes_over_text_cut_it_elsewhere_in_another_order():
    windows = Windows(torch.arange(500, dtype=torch.int32), 12, seed=0)
    first, second = windows.take(windows.num_windows), windows.take(windows.num_windows)
    assert first.tokens_BT.tolist() != second.tokens_BT.tolist()
    assert set(first.tokens_BT[:, 0].tolist()) != set(second.tokens_BT[:, 0].tolist())


def test_windows_resume_anywhere():
    def fresh() -> Windows:
        return Windows(torch.arange(60, dtype=torch.int32), 5, seed=9)

    whole = fresh().take(40).tokens_BT
    first, second = fresh(), fresh()
    given = first.take(17).tokens_BT
    second.load_state_dict(first.state_dict())
    assert torch.equal(torch.cat([given, second.take(23).tokens_BT]), whole)


def test_too_little_text_is_refused():
    with pytest.raises(ValueError, match="11 tokens of text are too few for windows of 8"):
        Windows(torch.arange(11), 8, seed=0)


def test_a_mix_has_its_text_rows_in_every_batch():
    rows = torch.arange(8).reshape(4, 2)
    mask = torch.ones(4, 1, dtype=torch.bool)
    demonstrations = LMBatch(rows, torch.ones(4, 2, dtype=torch.bool), mask)
    stream = Mixed(
        Epochs(4, lambda index: demonstrations.rows(torch.tensor(index)), batch_rows=2, num_epochs=1, seed=0),
        Windows(torch.arange(30), 4, seed=0),
        3,
    )
    batches = list(stream)
    assert [[len(part.tokens_BT) for part in parts] for parts in batches] == [[2, 3], [2, 3]]


def test_derived_seeds_tell_their_parts_apart():
    assert derived_seed(1, 23) != derived_seed(12, 3)
    assert 0 <= derived_seed(1, "x") < 2**63


def lm_batch() -> LMBatch:
    """Prompt columns 3, completion columns 3; row lengths 2, 5, 3."""
    attention = torch.tensor([[0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0]], dtype=torch.bool)
    return LMBatch(torch.arange(18).reshape(3, 6), attention, attention[:, 3:])


def test_trimming_takes_away_padding_alone():
    batch = trimmed(lm_batch())
    assert batch.tokens_BT.tolist() == [[1, 2, 3, 4, 5], [7, 8, 9, 10, 11], [13, 14, 15, 16, 17]]
    short = trimmed(lm_batch().rows(torch.tensor([0, 2])))
    assert short.tokens_BT.tolist() == [[1, 2, 3], [13, 14, 15]]
    assert short.mask_BC.tolist() == [[True], [True]]


def test_micro_batches_hold_every_real_token_once():
    pieces = micro_batches(lm_batch(), 1)
    assert [piece.tokens_BT[piece.attention_BT].tolist() for piece in pieces] == [
        [7, 8, 9, 10, 11],
        [13, 14, 15],
        [2, 3],
    ]
    assert sum(int(piece.mask_BC.sum()) for piece in pieces) == 5
