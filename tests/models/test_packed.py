"""What lies where when the real tokens of a padded batch are packed, counted by hand."""

import torch

from instructloop.models.packed import pack, positions


def test_positions_count_real_tokens():
    attention_BT = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]]).bool()
    assert positions(attention_BT).tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]


def test_real_tokens_lie_row_after_row_and_positions_begin_again():
    tokens_BT = torch.tensor([[77, 10, 11, 12], [77, 77, 20, 77], [77, 77, 77, 77], [30, 31, 32, 77]])
    attention_BT = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 0]]).bool()
    packing = pack(tokens_BT, attention_BT)
    assert packing.tokens_1N.tolist() == [[10, 11, 12, 20, 30, 31, 32]]
    assert packing.position_1N.tolist() == [[0, 1, 2, 0, 0, 1, 2]]
    assert packing.number_BT[attention_BT].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert [block.query_RQ.tolist() for block in packing.blocks] == [[[0, 1, 2], [4, 5, 6]], [[3]]]
    assert packing.blocks[0].unseen(None).tolist() == [[[0, 1, 1], [0, 0, 1], [0, 0, 0]]]
    assert packing.blocks[0].unseen(2).tolist() == [[[0, 1, 1], [0, 0, 1], [1, 0, 0]]]


def test_the_lines_of_heads_are_found_again_among_the_blocks():
    generator = torch.Generator().manual_seed(0)
    attention_BT = torch.arange(9) < torch.tensor([9, 4, 8, 1, 3, 6])[:, None]
    packing = pack(torch.zeros(6, 9, dtype=torch.long), attention_BT)
    states_NHE = torch.randn(int(attention_BT.sum()), 3, 2, generator=generator)
    blocks = states_NHE.view(-1, 2)[packing.taken("query_RQ", 3)]
    assert torch.equal(blocks[packing.lines("queries", 3)].view_as(states_NHE), states_NHE)
    assert torch.equal(blocks[packing.lines("keys", 3)].view_as(states_NHE), states_NHE)
    others = torch.cat([packing.lines("queries", 3), packing.lines("padding", 3)])
    assert others.sort().values.tolist() == list(range(len(blocks)))  # every line is a token's or padding


def test_what_rows_of_a_prompt_begin_with_is_there_once():
    rows = [[10, 11, 12, 13], [20, 21], [10, 11, 14], [20, 21, 22], [10, 11, 12, 15]]
    tokens_BT = torch.tensor([[77] * (4 - len(row)) + row for row in rows])
    attention_BT = torch.arange(4) >= torch.tensor([4 - len(row) for row in rows])[:, None]
    packing = pack(tokens_BT, attention_BT, torch.tensor([5, 3, 5, 3, 5]))
    # 20 alone is shared: the last token of a row is its own. The first row of a prompt has what the others share.
    assert packing.tokens_1N.tolist() == [[10, 11, 12, 13, 20, 21, 14, 21, 22, 12, 15]]
    assert packing.position_1N.tolist() == [[0, 1, 2, 3, 0, 1, 2, 1, 2, 2, 3]]
    assert packing.number_BT[:, -1].tolist() == [3, 5, 6, 8, 10]
    alone, pair, shared, last = packing.blocks
    assert alone.query_RQ.tolist() == [[0, 1, 2, 3]]
    assert pair.query_RQ.tolist() == [[4, 5]]
    assert shared.query_RQ.tolist() == [[7, 8], [9, 10]]
    assert shared.key_RS.tolist() == [[4, 7, 8, 8], [0, 1, 9, 10]]
    assert last.key_RS.tolist() == [[0, 1, 6]]
    # 21 sees 20 and itself, 22 all three; 12 sees 10, 11 and itself.
    assert shared.unseen(None).tolist() == [[[0, 0, 1, 1], [0, 0, 0, 1]], [[0, 0, 0, 1], [0, 0, 0, 0]]]
    assert packing.shared_M.tolist() == [0, 1, 4, 0, 1]


def test_without_a_common_beginning_nothing_is_shared():
    tokens_BT = torch.tensor([[10, 11], [12, 11], [13, 14]])
    attention_BT = torch.ones(3, 2, dtype=torch.bool)
    assert pack(tokens_BT, attention_BT, torch.zeros(3, dtype=torch.long)).tokens_1N.tolist() == [
        [10, 11, 12, 11, 13, 14]
    ]
