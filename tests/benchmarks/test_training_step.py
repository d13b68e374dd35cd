"""Arms of the training step do the same work, and its figures are per real token."""

import pytest
import torch

from benchmarks import training_step
from benchmarks.training_step import language_arm, measured, padded, ranking_arm
from instructloop.models.scalar import ScalarModel
from tests.train.small import flat_gradient

TINY = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(training_step.SIZES, "small", TINY)
    monkeypatch.setitem(training_step.ROWS, "small", 4)


def test_every_arm_makes_the_same_gradient():
    torch.manual_seed(0)
    config = training_step.configuration("small")
    policy = training_step.LlamaForCausalLM(config)
    reward = ScalarModel(training_step.LlamaForSequenceClassification(config))
    ranked = training_step.ranking("small", 6, 3)
    learn = language_arm(policy, training_step.demonstrations("small"))
    alone, shared = (ranking_arm(reward, ranked, shares=shares) for shares in (False, True))
    for model, arms in ((policy, (padded(learn), learn)), (reward, (padded(alone), alone, shared))):
        gradients = []
        for arm in arms:
            arm()
            gradients.append(flat_gradient(model).clone())
        for gradient in gradients[1:]:
            torch.testing.assert_close(gradient, gradients[0], atol=1e-5, rtol=1e-5)


def test_figures_count_real_tokens():
    found = measured("small", torch.float32, repeats=1)
    assert [row["real_tokens"] for row in found] == [33 + 64 + 96 + 128, 9 * 96, 9 * 96]
    assert all(row["ratio"].keys() == row["tokens_per_second"].keys() - {"padded"} for row in found)
