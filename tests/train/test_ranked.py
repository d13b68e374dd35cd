import itertools
import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from instructloop.models.scalar import ScalarModel
from instructloop.train.ranked import RankedPrompt, ranked_batch, ranking_task, score_rows
from instructloop.train.streams import Epochs
from tests.tiny import tiny_lm
from tests.train.small import flat_gradient, widened


def prompts() -> list[RankedPrompt]:
    """Three prompts with 3, 2 and 4 completions; the second is ranked by two labelers who disagree."""
    return [
        RankedPrompt("a", ([10, 11, 0], [10, 12, 13, 0], [10, 0]), (((2,), (0, 1)),)),
        RankedPrompt("b", ([20, 21, 22, 23, 24, 0], [20, 25, 0]), (((0,), (1,)), ((1,), (0,)))),
        RankedPrompt("c", ([30, 0], [30, 31, 0], [30, 32, 33, 0], [30, 34, 35, 36, 0]), (((3,), (0,), (1,), (2,)),)),
    ]


@pytest.fixture
def reward():
    return ScalarModel.from_lm(*tiny_lm(), seed=1)


def loss_of(model: ScalarModel, pieces) -> torch.Tensor:
    task = ranking_task(model, Epochs(1, list, batch_rows=1, num_epochs=1, seed=0))
    counts = task.counts(pieces)
    return sum(task.loss(model, piece, counts)[0] for piece in task.split(pieces))


def test_the_loss_is_the_mean_over_rankings_of_the_mean_over_pairs_each_scored_alone(reward):
    model, text = reward
    rankings = []
    for prompt in prompts():
        scores = [model.score(torch.tensor([row]), torch.ones(1, len(row), dtype=torch.bool))[0] for row in prompt.rows]
        for tiers in prompt.rankings:
            pairs = [
                pair for tiers_of_two in itertools.combinations(tiers, 2) for pair in itertools.product(*tiers_of_two)
            ]
            rankings.append(sum(-logsigmoid(scores[winner] - scores[loser]) for winner, loser in pairs) / len(pairs))
    assert len(rankings) == 4
    assert loss_of(model, ranked_batch(prompts(), text, None)).item() == pytest.approx(
        torch.stack(rankings).mean().item(), abs=1e-5
    )


@pytest.mark.parametrize("rows", [1, 4, 6])
def test_any_split_gives_the_same_gradient_and_cuts_no_prompt(reward, rows: int):
    model, text = reward
    gradients = []
    for micro_batch_rows in (None, rows):
        model.zero_grad()
        loss_of(model, ranked_batch(prompts(), text, micro_batch_rows)).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert gradients[1] == pytest.approx(gradients[0], abs=1e-5)
    assert gradients[0].norm() > 0.1
    sizes = [len(piece.tokens_BT) for piece in ranked_batch(prompts(), text, rows)]
    assert sizes == {1: [2, 4, 3], 4: [2, 4, 3], 6: [6, 3]}[rows]  # longest first


def test_a_prompt_costs_as_many_forwards_as_it_has_completions(reward):
    _, text = reward
    (piece,) = ranked_batch(prompts(), text, None)
    assert len(piece.tokens_BT) == 3 + 2 + 4  # not twice its 2 + 2 + 6 pairs
    assert len(piece.winner_N) == 2 + 2 + 6


def test_four_completions_cost_four_forwards_and_their_loss_is_the_mean_of_six_pairs(reward):
    model, text = reward
    four = prompts()[2]
    scores = [model.score(torch.tensor([row]), torch.ones(1, len(row), dtype=torch.bool)).item() for row in four.rows]
    order = [scores[row] for (row,) in four.rankings[0]]
    pairs = [math.log1p(math.exp(loser - winner)) for winner, loser in itertools.combinations(order, 2)]
    assert len(pairs) == 6
    num_tokens: list[int] = []
    handle = model.model.base_model.register_forward_pre_hook(
        lambda _, __, inputs: num_tokens.append(inputs["input_ids"].numel()), with_kwargs=True
    )
    loss = loss_of(model, ranked_batch([four], text, 1))
    loss.backward()
    handle.remove()
    # The prompt once and each completion once, not K - 1 = 3 times, whatever the size of a micro-batch.
    assert num_tokens == [1 + 1 + 2 + 3 + 4]
    assert loss.item() == pytest.approx(sum(pairs) / 6, abs=1e-5)


def test_only_the_last_real_token_of_each_completion_is_scored(reward):
    model, text = reward
    (piece,) = ranked_batch([prompts()[2]], text, None)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def kept(_: object, __: object, inputs, output) -> None:
        output.last_hidden_state.retain_grad()
        seen.append((inputs["input_ids"][0], output.last_hidden_state))

    handle = model.model.base_model.register_forward_hook(kept, with_kwargs=True)
    loss_of(model, (piece,)).backward()
    handle.remove()
    ((ids_N, hidden_1ND),) = seen
    with_gradient = hidden_1ND.grad.abs().sum(-1)[0] != 0
    assert ids_N.tolist() == [30, 0, 31, 0, 32, 33, 0, 34, 35, 36, 0]
    assert torch.equal(with_gradient, ids_N == 0)  # EOS closes each of them


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_padding_on_either_side_changes_neither_loss_nor_metrics_nor_gradients(architecture: str, pad_is_eos: bool):
    model, text = ScalarModel.from_lm(*tiny_lm(architecture, pad_is_eos=pad_is_eos), seed=1)
    (piece,) = ranked_batch(prompts(), text, None)
    task = ranking_task(model, Epochs(1, list, batch_rows=1, num_epochs=1, seed=0))
    found, gradients = [], []
    for batch in (piece, widened(piece, left=3, right=2)):
        model.zero_grad()
        loss, metrics = task.loss(model, (batch,), task.counts((batch,)))
        loss.backward()
        found.append({"loss": loss.item(), **{name: float(value) for name, value in metrics.items()}})
        gradients.append(flat_gradient(model))
    assert found[1] == pytest.approx(found[0], abs=1e-5)
    largest = gradients[0].abs().max().item()  # 95 where EOS, as the pad of its model, began as a row of zeros
    assert gradients[1] == pytest.approx(gradients[0], abs=1e-5 * largest)
    assert largest > 0.1


def test_scores_of_many_rows_are_those_of_each_alone(reward):
    model, text = reward
    rows = [row for prompt in prompts() for row in prompt.rows]
    together = score_rows(model, text, rows, batch_tokens=12)
    alone = [score_rows(model, text, [row])[0] for row in rows]
    assert together == pytest.approx(alone, abs=1e-5)
