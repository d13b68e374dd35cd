"""Losses: against NumPy written from the equations, against hand calculations, and by learning small known things."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from instructloop.core.batches import pair_rows
from instructloop.core.losses import lm_loss, pairwise_ranking_loss, ppo_policy_loss, value_loss
from instructloop.core.masked import Sum, whiten
from instructloop.core.returns import gae, kl_shaped_rewards

NAN = float("nan")


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ragged_mask(rows: int, columns: int, seed: int) -> torch.Tensor:
    lengths = torch.randint(1, columns + 1, (rows, 1), generator=torch.Generator().manual_seed(seed))
    return torch.arange(columns) < lengths


def padded(x_BC: torch.Tensor, filler: float) -> torch.Tensor:
    """Return three more columns of `filler` on the right."""
    return torch.cat([x_BC, torch.full((len(x_BC), 3), filler, dtype=x_BC.dtype)], 1)


# --- language modelling -------------------------------------------------------------------------------------------


def test_lm_loss_is_the_negative_log_probability_per_token():
    logprobs_BC = torch.tensor([[math.log(0.5), math.log(0.25)], [math.log(0.125), NAN]])
    loss = lm_loss(logprobs_BC, torch.tensor([[True, True], [True, False]]))
    assert float(loss.total) == pytest.approx(6 * math.log(2))  # 1 + 2 + 3 bits
    assert float(loss.mean()) == pytest.approx(2 * math.log(2))  # over 3 tokens


def test_lm_loss_is_the_cross_entropy_of_torch():
    logits_BCV, target_BC = draw(3, 5, 7, seed=1), torch.randint(7, (3, 5), generator=torch.Generator().manual_seed(2))
    mask_BC = ragged_mask(3, 5, seed=3)
    logprobs_BC = logits_BCV.log_softmax(-1).gather(-1, target_BC[..., None])[..., 0]
    expected = torch.nn.functional.cross_entropy(logits_BCV[mask_BC], target_BC[mask_BC])
    assert float(lm_loss(logprobs_BC, mask_BC)) == pytest.approx(float(expected))


# --- ranking ------------------------------------------------------------------------------------------------------


def test_ranking_loss_of_one_pair_by_hand():
    loss = pairwise_ranking_loss(torch.tensor([1.0, 0.0]), torch.tensor([0]), torch.tensor([1]), torch.tensor([1.0]))
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-1)))  # .313262
    assert float(loss) == pytest.approx(0.313262, abs=1e-6)


@pytest.mark.parametrize("num_completions", [2, 4, 9])
def test_ranking_loss_is_the_mean_of_the_pair_losses_of_a_prompt(num_completions: int):
    score_B = draw(num_completions, seed=num_completions)
    loss = pairwise_ranking_loss(score_B, *pair_rows([[[i] for i in range(num_completions)]]))
    margins = [float(score_B[i] - score_B[j]) for i, j in combinations(range(num_completions), 2)]
    assert len(margins) == math.comb(num_completions, 2)
    assert float(loss.total) == pytest.approx(np.mean([np.log1p(np.exp(-margin)) for margin in margins]))
    assert float(loss.count) == pytest.approx(1.0)


def test_every_prompt_counts_once_whatever_its_number_of_completions():
    score_B = draw(13, seed=4)
    nine, four = [[i] for i in range(9)], [[i] for i in range(9, 13)]
    together = pairwise_ranking_loss(score_B, *pair_rows([nine, four]))
    apart = [float(pairwise_ranking_loss(score_B, *pair_rows([ranking]))) for ranking in (nine, four)]
    assert float(together) == pytest.approx(np.mean(apart))
    assert float(together.count) == pytest.approx(2.0)


def test_a_tied_pair_has_no_gradient():
    score_B = torch.zeros(3, requires_grad=True)
    pairwise_ranking_loss(score_B, *pair_rows([[[0], [1, 2]]])).total.backward()
    # Each of the two comparisons weighs 1/2 and has slope 1/2 at margin 0.
    assert score_B.grad.tolist() == pytest.approx([-0.5, 0.25, 0.25])


def test_ranking_loss_ignores_a_common_shift_and_is_log_2_without_knowledge():
    score_B, pairs = draw(4, seed=5), pair_rows([[[2], [0, 1], [3]]])
    shifted = pairwise_ranking_loss(score_B + 3.0, *pairs)
    assert float(shifted) == pytest.approx(float(pairwise_ranking_loss(score_B, *pairs)), abs=1e-5)
    assert float(pairwise_ranking_loss(torch.zeros(4), *pairs)) == pytest.approx(math.log(2))


def test_ranking_loss_stays_finite_at_extreme_margins_and_in_half_precision():
    pair = (torch.tensor([1]), torch.tensor([0]), torch.tensor([1.0]))
    assert float(pairwise_ranking_loss(torch.tensor([1000.0, 0.0]), *pair)) == pytest.approx(1000.0)
    loss = pairwise_ranking_loss(torch.tensor([4.0, 0.0], dtype=torch.float16), *pair)
    assert loss.total.dtype == torch.float32
    assert float(loss) == pytest.approx(math.log1p(math.exp(4.0)))


def test_rankings_that_all_tie_give_a_loss_of_zero_over_zero_prompts():
    score_B = torch.zeros(3, requires_grad=True)
    loss = pairwise_ranking_loss(score_B, *pair_rows([[[0, 1, 2]]]))
    loss.total.backward()
    assert float(loss.detach().total) == float(loss.count) == 0.0
    assert score_B.grad.tolist() == [0.0, 0.0, 0.0]


def test_a_linear_reward_model_learns_separable_rankings():
    features_BD, truth_D = draw(400, 5, seed=6), draw(5, seed=7)
    utility_B = features_BD @ truth_D
    groups = [sorted(range(i, i + 4), key=lambda row: -float(utility_B[row])) for i in range(0, 400, 4)]
    pairs = pair_rows([[[row] for row in group] for group in groups])
    weight_D = torch.zeros(5, requires_grad=True)
    optimizer = torch.optim.Adam([weight_D], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        pairwise_ranking_loss(features_BD @ weight_D, *pairs).mean().backward()
        optimizer.step()
    score_B = (features_BD @ weight_D).detach()
    assert float((score_B[pairs[0]] > score_B[pairs[1]]).float().mean()) > 0.99


# --- clipped policy loss ------------------------------------------------------------------------------------------


def policy_loss_by_the_equation(new, old, advantage, mask, clip_ratio: float) -> tuple[float, dict[str, float]]:
    """Return total and metrics by a loop over tokens in float64, from Schulman 2017, eq. 7: E min(r A, clip(r) A)."""
    losses, k2, clipped, ratios = [], [], [], []
    for row in range(mask.shape[0]):
        for t in range(mask.shape[1]):
            if not mask[row, t]:
                continue
            ratio = np.exp(new[row, t] - old[row, t])
            free = ratio * advantage[row, t]
            held = np.clip(ratio, 1 - clip_ratio, 1 + clip_ratio) * advantage[row, t]
            losses.append(-min(free, held))
            k2.append((new[row, t] - old[row, t]) ** 2 / 2)
            clipped.append(float(held < free))
            ratios.append(ratio)
    metrics = {"policy/approxkl": np.mean(k2), "policy/clipfrac": np.mean(clipped), "policy/ratio": np.mean(ratios)}
    return float(np.sum(losses)), {name: float(value) for name, value in metrics.items()}


@pytest.mark.parametrize("clip_ratio", [0.05, 0.2, 0.5])
def test_policy_loss_is_the_equation_in_numpy(clip_ratio: float):
    old_BC, advantage_BC, mask_BC = draw(6, 8, seed=1), draw(6, 8, seed=2), ragged_mask(6, 8, seed=3)
    new_BC = old_BC + 0.4 * draw(6, 8, seed=4)
    arrays = (x.double().numpy() for x in (new_BC, old_BC, advantage_BC))
    total, metrics = policy_loss_by_the_equation(*arrays, mask_BC.numpy(), clip_ratio)
    loss, found = ppo_policy_loss(new_BC, old_BC, advantage_BC, mask_BC, clip_ratio=clip_ratio)
    assert float(loss.total) == pytest.approx(total, abs=1e-4)
    assert float(loss.count) == int(mask_BC.sum())
    assert {name: float(value) for name, value in found.items()} == pytest.approx(metrics, abs=1e-5)
    assert 0.0 < metrics["policy/clipfrac"] < 1.0


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.0, 2.0, -2.0, -2.0),  # free: d(-A r) / d log r = -A r
        (1.1, 2.0, -2.2, -2.2),
        (1.5, 2.0, -2.4, 0.0),  # held at 1.2, no more gain from going up
        (0.5, 2.0, -1.0, -1.0),  # going up again is free
        (1.5, -2.0, 3.0, 3.0),  # going down again is free
        (0.5, -2.0, 1.6, 0.0),  # held at .8
    ],
)
def test_policy_loss_of_one_token_by_hand(ratio: float, advantage: float, loss: float, slope: float):
    new_BC = torch.tensor([[math.log(ratio)]], requires_grad=True)
    one = torch.ones(1, 1)
    result, _ = ppo_policy_loss(new_BC, 0 * one, advantage * one, one.bool(), clip_ratio=0.2)
    result.total.backward()
    assert float(result.detach()) == pytest.approx(loss)
    assert float(new_BC.grad) == pytest.approx(slope)


def test_gradient_on_two_tokens_is_the_one_derived_by_hand():
    # pi(0) = s = sigmoid(theta); d log pi(a) / d theta = [a = 0] - s. Sampled: a = 0, 1, 0 at advantages 1, 2, -3 under
    # an old policy of theta 0.1. d loss / d theta = sum -A r ([a = 0] - s) as long as nothing is clipped.
    theta, theta_old = 0.25, 0.1
    actions, advantages = [0, 1, 0], [1.0, 2.0, -3.0]
    s, s_old = 1 / (1 + np.exp(-theta)), 1 / (1 + np.exp(-theta_old))
    expected = 0.0
    for action, advantage in zip(actions, advantages, strict=True):
        probability, old = (s, s_old) if action == 0 else (1 - s, 1 - s_old)
        expected += -advantage * probability / old * ((action == 0) - s)

    parameter = torch.tensor(theta, requires_grad=True)
    logits_V = torch.stack([parameter, torch.tensor(0.0)])
    old_logits_V = torch.tensor([theta_old, 0.0])
    index = torch.tensor([actions])
    new_BC, old_BC = logits_V.log_softmax(0)[index], old_logits_V.log_softmax(0)[index]
    loss, metrics = ppo_policy_loss(
        new_BC, old_BC, torch.tensor([advantages]), torch.ones(1, 3, dtype=torch.bool), clip_ratio=0.2
    )
    loss.total.backward()
    assert float(metrics["policy/clipfrac"]) == 0.0
    assert float(parameter.grad) == pytest.approx(expected, abs=1e-6)


def golden_by_hand(theta, old, ref, value, action, length, score) -> np.ndarray:
    """Return d loss / d theta of a whole PPO step on a vocabulary of two tokens, in float64, token by token.

    pi(0) at row b and token t is sigmoid(theta[b, t]); rewards, GAE, whitening and the clipped loss follow the papers:
    kl_coef .3, gamma .9, lam .7, clip ratio .2.
    """

    def probability(logit, token):
        return 1 / (1 + np.exp(-logit if token == 0 else logit))

    rows = range(len(length))
    advantage = np.zeros_like(theta)
    for b in rows:
        later_value = later_advantage = 0.0
        for t in reversed(range(length[b])):
            a = action[b, t]
            reward = -0.3 * (np.log(probability(old[b, t], a)) - np.log(probability(ref[b, t], a)))
            reward += score[b] if t == length[b] - 1 else 0.0
            error = reward + 0.9 * later_value - value[b, t]
            later_advantage = error + 0.9 * 0.7 * later_advantage
            later_value, advantage[b, t] = value[b, t], later_advantage
    real = [(b, t) for b in rows for t in range(length[b])]
    of_real = np.array([advantage[place] for place in real])
    slope = np.zeros_like(theta)
    for b, t in real:
        a, x = action[b, t], theta[b, t]
        white = (advantage[b, t] - of_real.mean()) / of_real.std()
        ratio = probability(x, a) / probability(old[b, t], a)
        is_held = ratio > 1.2 if white > 0 else ratio < 0.8
        # d log pi(a) / d theta = [a = 0] - pi(0)
        slope[b, t] = 0.0 if is_held else -white * ratio * ((a == 0) - probability(x, 0)) / len(real)
    return slope


def test_the_gradient_of_a_whole_ppo_step_on_two_tokens_is_that_of_numpy():
    theta, old, ref, value = (draw(5, 6, seed=seed) for seed in (1, 2, 3, 4))
    theta = old + 0.7 * theta  # far enough from the old policy for some tokens to be held
    action = (draw(5, 6, seed=5) > 0).long()
    length, score = [6, 1, 3, 5, 2], draw(5, seed=6)
    mask = torch.arange(6) < torch.tensor(length)[:, None]
    arrays = (x.double().numpy() for x in (theta, old, ref, value))
    expected = golden_by_hand(*arrays, action.numpy(), length, score.double().numpy())
    assert 0 < (expected[mask.numpy()] == 0).sum() < mask.sum() / 2

    leaf = theta.clone().requires_grad_()
    of_new, of_old, of_ref = (
        torch.stack([x, torch.zeros_like(x)], -1).log_softmax(-1).gather(-1, action[..., None])[..., 0]
        for x in (leaf, old, ref)
    )
    reward = kl_shaped_rewards(score, of_old, of_ref, mask, kl_coef=0.3)
    advantage, _ = gae(reward, value, mask, gamma=0.9, lam=0.7)
    white = whiten(advantage, mask, shift_mean=True)
    loss, _ = ppo_policy_loss(of_new, of_old, white, mask, clip_ratio=0.2)
    loss.mean().backward()
    assert leaf.grad.flatten().tolist() == pytest.approx(expected.flatten().tolist(), abs=1e-6)


def test_before_any_update_the_ratio_is_1_and_nothing_is_clipped():
    logprobs_BC, advantage_BC, mask_BC = draw(4, 6, seed=1), draw(4, 6, seed=2), ragged_mask(4, 6, seed=3)
    loss, metrics = ppo_policy_loss(logprobs_BC, logprobs_BC, advantage_BC, mask_BC, clip_ratio=0.2)
    assert {name: float(metric) for name, metric in metrics.items()} == {
        "policy/approxkl": 0.0,
        "policy/clipfrac": 0.0,
        "policy/ratio": 1.0,
    }
    assert float(loss) == pytest.approx(-float(advantage_BC[mask_BC].mean()), abs=1e-6)


@pytest.mark.parametrize("filler", [NAN, float("inf"), 0.0, -1e9])
def test_padding_changes_neither_losses_nor_metrics_nor_gradients(filler: float):
    mask_BC = ragged_mask(4, 6, seed=3)
    wide_mask = torch.cat([mask_BC, torch.zeros(4, 3, dtype=torch.bool)], 1)
    results, leaves = [], []
    for is_padded, mask in ((False, mask_BC), (True, wide_mask)):
        x, old, advantage, target = (draw(4, 6, seed=seed) for seed in (1, 2, 4, 5))
        if is_padded:  # garbage in the new columns and wherever the mask is off
            x, old, advantage, target = (
                torch.where(wide_mask, padded(y, filler), filler) for y in (x, old, advantage, target)
            )
        leaf = x.requires_grad_()
        policy, policy_metrics = ppo_policy_loss(leaf, old, advantage, mask, clip_ratio=0.2)
        value, value_metrics = value_loss(leaf, old, target, mask, clip_value=0.2)
        lm = lm_loss(leaf, mask)
        (policy.total + value.total + lm.total).backward()
        metrics = [float(metric) for metric in {**policy_metrics, **value_metrics}.values()]
        results.append([float(policy), float(value), float(lm), *metrics])
        leaves.append(leaf.grad)
    assert results[1] == pytest.approx(results[0], abs=1e-6)
    assert torch.equal(leaves[1][:, :6], leaves[0])
    assert (leaves[1][~wide_mask] == 0).all()


@pytest.mark.parametrize("sizes", [[6], [1, 5], [2, 2, 2], [1, 1, 1, 1, 1, 1]])
def test_any_split_into_micro_batches_gives_the_same_gradient(sizes: list[int]):
    leaf_BC, old_BC, advantage_BC = draw(6, 8, seed=1).requires_grad_(), draw(6, 8, seed=1), draw(6, 8, seed=2)
    mask_BC = ragged_mask(6, 8, seed=3)
    count = mask_BC.sum()
    merged = Sum(0.0, 0.0)
    for rows in torch.arange(6).split(sizes):
        loss, _ = ppo_policy_loss(leaf_BC[rows], old_BC[rows], advantage_BC[rows], mask_BC[rows], clip_ratio=0.2)
        (loss.total / count).backward()
        merged = merged + loss.detach()
    expected = torch.where(mask_BC, -advantage_BC / count, 0.0)  # at ratio 1 the slope of -A r / n is -A / n
    assert torch.allclose(leaf_BC.grad, expected, atol=1e-7)
    assert float(merged) == pytest.approx(-float(advantage_BC[mask_BC].mean()), abs=1e-6)


def test_the_gradient_of_ppo_ptx_is_that_of_ppo_plus_ptx_coef_times_that_of_ptx():
    mask_BC, ptx_mask_BC, ptx_coef = ragged_mask(2, 4, seed=3), ragged_mask(5, 4, seed=4), 27.8
    old_BC, advantage_BC, x_BV = draw(2, 4, seed=5), draw(2, 4, seed=2), draw(5, 4, seed=6)

    def gradient(with_ppo: bool, with_ptx: bool) -> torch.Tensor:
        parameter = torch.tensor([0.3, -0.2, 0.1, 0.5], requires_grad=True)
        ppo, _ = ppo_policy_loss(old_BC + 0.1 * parameter, old_BC, advantage_BC, mask_BC, clip_ratio=0.2)
        ptx = lm_loss(x_BV * parameter, ptx_mask_BC)
        loss = with_ppo * ppo.total / mask_BC.sum() + with_ptx * ptx_coef * ptx.total / ptx_mask_BC.sum()
        loss.backward()
        return parameter.grad

    mean_BV = torch.where(ptx_mask_BC, x_BV, 0.0).sum(0) / ptx_mask_BC.sum()
    expected = gradient(True, False) - ptx_coef * mean_BV  # d(-x p) / dp = -x
    assert torch.allclose(gradient(True, True), expected, atol=1e-5)


def test_ppo_on_a_bandit_reaches_the_known_optimum():
    # Maximising E[score] - beta KL(pi | ref) has the solution pi proportional to ref * exp(score / beta).
    score_V, ref_V, beta = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.5, 0.3, 0.2]), 0.5
    optimum_V = ref_V * (score_V / beta).exp()
    optimum_V = optimum_V / optimum_V.sum()
    generator = torch.Generator().manual_seed(0)
    logits_V = ref_V.log().clone().requires_grad_()
    optimizer = torch.optim.SGD([logits_V], lr=0.5)
    mask_BC = torch.ones(1024, 1, dtype=torch.bool)
    for _ in range(150):
        old_V = logits_V.detach().log_softmax(0)
        action_BC = torch.multinomial(old_V.exp(), 1024, replacement=True, generator=generator)[:, None]
        reward_BC = kl_shaped_rewards(
            score_V[action_BC[:, 0]], old_V[action_BC], ref_V.log()[action_BC], mask_BC, kl_coef=beta
        )
        baseline_BC = reward_BC.mean().expand(1024, 1)
        advantage_BC, _ = gae(reward_BC, baseline_BC, mask_BC, gamma=1.0, lam=0.95)
        loss, _ = ppo_policy_loss(
            logits_V.log_softmax(0)[action_BC], old_V[action_BC], advantage_BC, mask_BC, clip_ratio=0.2
        )
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    # Sampling noise of 1024 draws moves the end point by about .01.
    assert logits_V.detach().softmax(0).tolist() == pytest.approx(optimum_V.tolist(), abs=0.03)


# --- clipped value loss -------------------------------------------------------------------------------------------


def test_value_loss_is_the_equation_in_numpy():
    value_BC, old_BC, return_BC = (draw(6, 8, seed=seed) for seed in (1, 2, 3))
    mask_BC = ragged_mask(6, 8, seed=4)
    value, old, target, mask = (x.numpy() for x in (value_BC, old_BC, return_BC, mask_BC))
    free, held = (value - target) ** 2, (old + np.clip(value - old, -0.2, 0.2) - target) ** 2
    loss, metrics = value_loss(value_BC, old_BC, return_BC, mask_BC, clip_value=0.2)
    assert float(loss) == pytest.approx(0.5 * np.maximum(free, held)[mask].mean(), abs=1e-5)
    assert float(metrics["value/clipfrac"]) == pytest.approx((held > free)[mask].mean())


@pytest.mark.parametrize(
    ("value", "target", "loss", "slope"),
    [
        (0.1, 1.0, 0.405, -0.9),  # inside the clip: (0.1 - 1)^2 / 2, slope v - R
        (0.5, 1.0, 0.32, 0.0),  # held at old + .2: (.2 - 1)^2 / 2 is the larger, no slope
        (-0.5, 1.0, 1.125, -1.5),  # moved away: the free error is the larger
    ],
)
def test_value_loss_of_one_token_by_hand(value: float, target: float, loss: float, slope: float):
    value_BC = torch.tensor([[value]], requires_grad=True)
    one = torch.ones(1, 1)
    result, _ = value_loss(value_BC, 0 * one, target * one, one.bool(), clip_value=0.2)
    result.total.backward()
    assert float(result.detach()) == pytest.approx(loss)
    assert float(value_BC.grad) == pytest.approx(slope)


def test_before_any_update_no_value_is_clipped():
    value_BC, return_BC, mask_BC = draw(4, 6, seed=1), draw(4, 6, seed=2), ragged_mask(4, 6, seed=3)
    loss, metrics = value_loss(value_BC, value_BC, return_BC, mask_BC, clip_value=0.2)
    assert float(metrics["value/clipfrac"]) == 0.0
    assert float(loss) == pytest.approx(0.5 * float((value_BC - return_BC)[mask_BC].square().mean()), abs=1e-5)


def test_losses_of_half_precision_are_float32_and_metrics_carry_no_graph():
    x = draw(2, 3, seed=1).to(torch.bfloat16).requires_grad_()
    mask = torch.ones(2, 3, dtype=torch.bool)
    policy, metrics = ppo_policy_loss(x, x.detach(), x.detach(), mask, clip_ratio=0.2)
    value, value_metrics = value_loss(x, x.detach(), x.detach(), mask, clip_value=0.2)
    assert {part.total.dtype for part in (policy, value, lm_loss(x, mask))} == {torch.float32}
    assert not any(metric.total.requires_grad for metric in (metrics | value_metrics).values())


def test_shapes_that_do_not_fit_are_refused():
    x, mask = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(TypeCheckError):
        ppo_policy_loss(x, x, torch.zeros(2), mask, clip_ratio=0.2)
    with pytest.raises(TypeCheckError):
        pairwise_ranking_loss(torch.zeros(2, 1), torch.tensor([0]), torch.tensor([1]), torch.ones(1))
