import itertools

import pytest
import torch
from torch.nn.functional import logsigmoid

from instructloop.models.scalar import ScalarModel
from instructloop.train.ranked import RankedPrompt, ranked_batch, ranking_task, score_rows
from instructloop.train.streams import Epochs
from tests.tiny import tiny_lm


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


def test_scores_of_many_rows_are_those_of_each_alone(reward):
    model, text = reward
    rows = [row for prompt in prompts() for row in prompt.rows]
    together = score_rows(model, text, rows, batch_tokens=12)
    alone = [score_rows(model, text, [row])[0] for row in rows]
    assert together == pytest.approx(alone, abs=1e-5)
