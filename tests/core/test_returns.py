"""Returns: identities of GAE, where the score lands, what KL estimators estimate, what the KL controller does."""

import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr

from instructloop.core.returns import (
    AdaptiveKL,
    FixedKL,
    explained_variance,
    gae,
    kl_k1,
    kl_k2,
    kl_k3,
    kl_shaped_rewards,
)

NAN = float("nan")


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ragged_mask(rows: int, columns: int, seed: int) -> torch.Tensor:
    lengths = torch.randint(1, columns + 1, (rows, 1), generator=torch.Generator().manual_seed(seed))
    return torch.arange(columns) < lengths


def mask_with_gaps(rows: int, columns: int, seed: int) -> torch.Tensor:
    mask_BC = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) < 0.6
    mask_BC[:, 3] = True
    return mask_BC


# --- generalised advantage estimation -----------------------------------------------------------------------------


def gae_by_the_definition(reward: list[float], value: list[float], gamma: float, lam: float) -> list[float]:
    """Return A_t = sum_k (gamma lam)^k delta_{t+k} by the double sum (Schulman 2016, eq. 16), in float64."""
    later = [*value[1:], 0.0]
    delta = [r + gamma * after - v for r, v, after in zip(reward, value, later, strict=True)]
    return [sum((gamma * lam) ** k * d for k, d in enumerate(delta[t:])) for t in range(len(delta))]


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize("lam", [0.0, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("make_mask", [ragged_mask, mask_with_gaps])
def test_gae_of_each_row_is_the_double_sum_over_its_real_tokens(gamma: float, lam: float, make_mask):
    reward_BC, value_BC, mask_BC = draw(5, 7, seed=1), draw(5, 7, seed=2), make_mask(5, 7, seed=3)
    advantage_BC, return_BC = gae(reward_BC, value_BC, mask_BC, gamma=gamma, lam=lam)
    for row in range(5):
        real = mask_BC[row]
        expected = gae_by_the_definition(reward_BC[row][real].tolist(), value_BC[row][real].tolist(), gamma, lam)
        assert advantage_BC[row][real].tolist() == pytest.approx(expected, abs=1e-5)
        assert torch.allclose(return_BC[row][real], (advantage_BC + value_BC)[row][real])
    assert (advantage_BC[~mask_BC] == 0).all()
    assert (return_BC[~mask_BC] == 0).all()


def test_gae_of_two_tokens_by_hand():
    # delta_1 = 2 - 1 = 1; delta_0 = 1 + .9 * 1 - .5 = 1.4; A_0 = 1.4 + .9 * .5 * 1 = 1.85
    advantage_BC, return_BC = gae(
        torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 1.0]]), torch.tensor([[True, True]]), gamma=0.9, lam=0.5
    )
    assert advantage_BC.tolist()[0] == pytest.approx([1.85, 1.0])
    assert return_BC.tolist()[0] == pytest.approx([2.35, 2.0])


def test_lam_1_gives_return_minus_value():
    reward_BC, value_BC, mask_BC = draw(3, 6, seed=1), draw(3, 6, seed=2), torch.ones(3, 6, dtype=torch.bool)
    advantage_BC, return_BC = gae(reward_BC, value_BC, mask_BC, gamma=1.0, lam=1.0)
    to_go_BC = reward_BC.flip(1).cumsum(1).flip(1)  # what is still to come, the token's own reward included
    assert torch.allclose(advantage_BC, to_go_BC - value_BC, atol=1e-5)
    assert torch.allclose(return_BC, to_go_BC, atol=1e-5)


def test_lam_0_gives_the_one_step_error():
    reward_BC, value_BC, mask_BC = draw(3, 6, seed=1), draw(3, 6, seed=2), torch.ones(3, 6, dtype=torch.bool)
    advantage_BC, _ = gae(reward_BC, value_BC, mask_BC, gamma=0.9, lam=0.0)
    next_value_BC = torch.cat([value_BC[:, 1:], torch.zeros(3, 1)], 1)
    assert torch.allclose(advantage_BC, reward_BC + 0.9 * next_value_BC - value_BC, atol=1e-6)


def test_a_perfect_value_function_leaves_no_advantage():
    reward_BC = draw(3, 6, seed=1)
    value_BC = reward_BC.flip(1).cumsum(1).flip(1)
    advantage_BC, _ = gae(reward_BC, value_BC, torch.ones(3, 6, dtype=torch.bool), gamma=1.0, lam=0.95)
    assert float(advantage_BC.abs().max()) < 1e-5


def test_padding_and_garbage_off_the_mask_change_no_advantage():
    reward_BC, value_BC, mask_BC = draw(4, 5, seed=1), draw(4, 5, seed=2), ragged_mask(4, 5, seed=3)
    advantage_BC, return_BC = gae(reward_BC, value_BC, mask_BC, gamma=1.0, lam=0.95)
    garbage_BC = torch.full((4, 3), NAN)
    dirty = [torch.cat([torch.where(mask_BC, x, NAN), garbage_BC], 1) for x in (reward_BC, value_BC)]
    wide_mask_BC = torch.cat([mask_BC, torch.zeros(4, 3, dtype=torch.bool)], 1)
    wide_advantage_BC, wide_return_BC = gae(*dirty, wide_mask_BC, gamma=1.0, lam=0.95)
    assert torch.equal(wide_advantage_BC[:, :5], advantage_BC)
    assert torch.equal(wide_return_BC[:, :5], return_BC)
    assert (wide_advantage_BC[:, 5:] == 0).all()


def test_advantages_and_returns_are_constants():
    value_BC = draw(2, 3, seed=1).requires_grad_()
    advantage_BC, return_BC = gae(draw(2, 3, seed=2), value_BC, torch.ones(2, 3, dtype=torch.bool), gamma=1.0, lam=0.95)
    assert not advantage_BC.requires_grad
    assert not return_BC.requires_grad


# --- shaped rewards -----------------------------------------------------------------------------------------------


def test_the_score_lands_on_the_last_real_token_and_the_penalty_on_each():
    # log ratios .5, -.5, 1 | -1, then padding; kl_coef .1; scores 2 and -3.
    logprobs_BC = torch.tensor([[-1.0, -1.0, -1.0], [-2.0, NAN, NAN]])
    ref_logprobs_BC = torch.tensor([[-1.5, -0.5, -2.0], [-1.0, NAN, NAN]])
    mask_BC = torch.tensor([[True, True, True], [True, False, False]])
    reward_BC = kl_shaped_rewards(torch.tensor([2.0, -3.0]), logprobs_BC, ref_logprobs_BC, mask_BC, kl_coef=0.1)
    assert reward_BC.flatten().tolist() == pytest.approx([-0.05, 0.05, 1.9, -2.9, 0.0, 0.0])


@pytest.mark.parametrize("make_mask", [ragged_mask, mask_with_gaps])
def test_without_the_penalty_the_rewards_of_a_row_sum_to_its_score(make_mask):
    score_B, mask_BC = draw(6, seed=1), make_mask(6, 7, seed=2)
    logprobs_BC, ref_logprobs_BC = draw(6, 7, seed=3), draw(6, 7, seed=4)
    reward_BC = kl_shaped_rewards(score_B, logprobs_BC, ref_logprobs_BC, mask_BC, kl_coef=0.3)
    kl_BC = kl_k1(logprobs_BC, ref_logprobs_BC, mask_BC)
    assert torch.allclose((reward_BC + 0.3 * kl_BC).sum(1), score_B, atol=1e-5)
    assert ((reward_BC + 0.3 * kl_BC).abs() > 1e-5).sum() == 6  # on one token per row
    last_B = [max(row.nonzero().flatten().tolist()) for row in mask_BC]
    assert reward_BC[range(6), last_B].tolist() == pytest.approx(
        (score_B - 0.3 * kl_BC[range(6), last_B]).tolist(), abs=1e-5
    )


def test_an_immediate_eos_is_an_episode_of_one_token():
    mask_BC = torch.tensor([[True, False, False]])
    reward_BC = kl_shaped_rewards(torch.tensor([1.5]), torch.zeros(1, 3), torch.zeros(1, 3), mask_BC, kl_coef=0.1)
    assert reward_BC.tolist() == [[1.5, 0.0, 0.0]]
    advantage_BC, _ = gae(reward_BC, torch.full((1, 3), 0.5), mask_BC, gamma=1.0, lam=0.95)
    assert advantage_BC.tolist() == [[1.0, 0.0, 0.0]]


def test_a_row_without_any_token_is_refused():
    with pytest.raises(AssertionError, match="without any sampled token"):
        kl_shaped_rewards(
            torch.ones(1), torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bool), kl_coef=0.1
        )


def test_where_policy_and_reference_agree_the_kl_is_0_and_advantages_depend_on_the_score_alone():
    logprobs_BC, mask_BC, score_B = draw(4, 6, seed=1), ragged_mask(4, 6, seed=2), draw(4, seed=3)
    rewards = [
        kl_shaped_rewards(score_B, x_BC, x_BC, mask_BC, kl_coef=coefficient)
        for x_BC, coefficient in ((logprobs_BC, 0.0), (logprobs_BC, 5.0), (draw(4, 6, seed=9), 5.0))
    ]
    advantages = [gae(reward_BC, torch.zeros(4, 6), mask_BC, gamma=1.0, lam=1.0)[0] for reward_BC in rewards]
    assert torch.equal(advantages[0], advantages[1])
    assert torch.equal(advantages[0], advantages[2])
    assert torch.equal(advantages[0], torch.where(mask_BC, score_B[:, None], 0.0))
    assert (kl_k1(logprobs_BC, logprobs_BC, mask_BC) == 0).all()


def test_a_large_penalty_is_not_clipped():
    mask_BC = torch.ones(1, 2, dtype=torch.bool)
    logprobs_BC, ref_logprobs_BC = torch.tensor([[-1.0, -1.0]]), torch.tensor([[-101.0, -1.0]])
    reward_BC = kl_shaped_rewards(torch.tensor([1.0]), logprobs_BC, ref_logprobs_BC, mask_BC, kl_coef=1.0)
    assert reward_BC.tolist() == [[-100.0, 1.0]]


def test_rewards_are_float32_constants_in_half_precision_too():
    x_BC = draw(2, 3, seed=1).to(torch.bfloat16).requires_grad_()
    score_B = draw(2, seed=2).to(torch.bfloat16)
    reward_BC = kl_shaped_rewards(score_B, x_BC, x_BC, torch.ones(2, 3, dtype=torch.bool), kl_coef=0.1)
    assert reward_BC.dtype == torch.float32
    assert not reward_BC.requires_grad


# --- KL estimators ------------------------------------------------------------------------------------------------


def distributions() -> tuple[torch.Tensor, torch.Tensor]:
    return draw(6, seed=1).double().log_softmax(0), draw(6, seed=2).double().log_softmax(0)


@pytest.mark.parametrize("estimator", [kl_k1, kl_k3])
def test_the_expectation_of_k1_and_k3_is_the_kl(estimator):
    logprobs_V, ref_logprobs_V = distributions()
    mask_BC = torch.ones(1, 6, dtype=torch.bool)
    estimate_BC = estimator(logprobs_V[None].float(), ref_logprobs_V[None].float(), mask_BC)
    expectation = float((logprobs_V.exp() * estimate_BC[0]).sum())
    exact = float(rel_entr(logprobs_V.exp().numpy(), ref_logprobs_V.exp().numpy()).sum())
    assert exact > 0.1
    assert expectation == pytest.approx(exact, abs=1e-5)


def test_estimators_of_one_token_by_hand():
    # log ratio log 2: k1 = .6931, k2 = .6931^2 / 2 = .2402, k3 = 1/2 - 1 + .6931 = .1931
    mask_BC = torch.ones(1, 1, dtype=torch.bool)
    pair = (torch.tensor([[0.0]]), torch.tensor([[-math.log(2)]]))
    found = [float(estimator(*pair, mask_BC)) for estimator in (kl_k1, kl_k2, kl_k3)]
    assert found == pytest.approx([0.693147, 0.240227, 0.193147], abs=1e-5)


@pytest.mark.parametrize("estimator", [kl_k2, kl_k3])
def test_k2_and_k3_are_never_negative_while_k1_can_be(estimator):
    pair, mask_BC = (draw(10, 20, seed=1), draw(10, 20, seed=2)), torch.ones(10, 20, dtype=torch.bool)
    assert float(estimator(*pair, mask_BC).min()) >= 0.0
    assert float(kl_k1(*pair, mask_BC).min()) < 0.0


@pytest.mark.parametrize("estimator", [kl_k1, kl_k2, kl_k3])
def test_estimators_read_nothing_off_the_mask_and_give_no_gradient_there(estimator):
    logprobs_BC = torch.tensor([[0.5, NAN, float("-inf")]], requires_grad=True)
    kl_BC = estimator(logprobs_BC, torch.tensor([[0.0, NAN, 1e4]]), torch.tensor([[True, False, False]]))
    kl_BC.sum().backward()
    assert kl_BC[0, 1:].tolist() == [0.0, 0.0]
    assert logprobs_BC.grad[0, 1:].tolist() == [0.0, 0.0]
    assert math.isfinite(float(logprobs_BC.grad[0, 0]))


@pytest.mark.parametrize("distance", [1e-4, 1e-3])
def test_close_policies_have_k3_near_k2(distance: float):
    pair = (torch.tensor([[distance]]), torch.tensor([[0.0]]))
    k2, k3 = (float(estimator(*pair, torch.ones(1, 1, dtype=torch.bool))) for estimator in (kl_k2, kl_k3))
    # k3 = d^2 / 2 - d^3 / 6 + ...; float32 resolves expm1(-d) + d to about 1e-11 here.
    assert k3 == pytest.approx(k2, abs=distance**3 + 2e-10)


# --- explained variance -------------------------------------------------------------------------------------------


def test_explained_variance_by_hand():
    # returns 1, 2, 3 have variance 2/3; errors .5, 0, -.5 have variance 1/6; 1 - 1/4
    value_BC, return_BC = torch.tensor([[0.5, 2.0, 3.5, NAN]]), torch.tensor([[1.0, 2.0, 3.0, NAN]])
    mask_BC = torch.tensor([[True, True, True, False]])
    assert explained_variance(value_BC, return_BC, mask_BC) == pytest.approx(0.75)
    assert explained_variance(return_BC, return_BC, mask_BC) == pytest.approx(1.0)
    assert explained_variance(torch.ones(1, 4), return_BC, mask_BC) == pytest.approx(0.0)
    assert math.isnan(explained_variance(value_BC, torch.ones(1, 4), mask_BC))


# --- KL coefficient -----------------------------------------------------------------------------------------------


def test_the_fixed_coefficient_stays_and_refuses_another_runs_state():
    controller = FixedKL(0.02)
    controller.update(1000.0, 512)
    assert controller.value == 0.02
    controller.load_state_dict({"value": 0.02})
    with pytest.raises(ValueError, match=r"0\.02 is fixed"):
        controller.load_state_dict({"value": 0.05})


@pytest.mark.parametrize(
    ("kl_per_episode", "expected"),
    [
        (12.0, 0.15 * (1 + 0.2 * 512 / 10_000)),  # error 1 is clipped to .2
        (6.6, 0.15 * (1 + 0.1 * 512 / 10_000)),
        (6.0, 0.15),
        (0.0, 0.15 * (1 - 0.2 * 512 / 10_000)),
    ],
)
def test_the_adaptive_coefficient_moves_as_ziegler_writes(kl_per_episode: float, expected: float):
    controller = AdaptiveKL(0.15, target=6.0, horizon=10_000)
    controller.update(kl_per_episode, 512)
    assert controller.value == pytest.approx(expected)


def test_the_adaptive_coefficient_brings_a_responsive_kl_to_its_target():
    controller = AdaptiveKL(0.01, target=6.0, horizon=1000)
    for _ in range(400):
        controller.update(0.5 / controller.value, 64)  # a policy whose KL is the inverse of the coefficient
    assert 0.5 / controller.value == pytest.approx(6.0, rel=1e-3)


def test_a_restored_adaptive_coefficient_goes_on_as_the_original():
    original, restored = AdaptiveKL(0.15, target=6.0, horizon=100), AdaptiveKL(0.15, target=6.0, horizon=100)
    original.update(9.0, 50)
    restored.load_state_dict(original.state_dict())
    original.update(3.0, 50)
    restored.update(3.0, 50)
    assert original.value == restored.value != 0.15


@pytest.mark.parametrize("name", ["value", "target", "horizon"])
def test_an_adaptive_coefficient_needs_positive_numbers(name: str):
    numbers = {"value": 0.1, "target": 6.0, "horizon": 100.0} | {name: 0.0}
    with pytest.raises(ValueError, match=name):
        AdaptiveKL(**numbers)


def test_double_sum_reference_itself_is_right_on_constant_rewards():
    # Reward 1, value 0, gamma = lam = 1: what is left to come is 3, 2, 1.
    assert gae_by_the_definition([1.0] * 3, [0.0] * 3, 1.0, 1.0) == [3.0, 2.0, 1.0]
    assert np.allclose(gae_by_the_definition([1.0] * 3, [0.0] * 3, 0.5, 1.0), [1.75, 1.5, 1.0])
