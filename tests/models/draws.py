"""Whether tokens look drawn from a distribution."""

import torch
from scipy.stats import chisquare


def pvalue_of_draws(tokens_N: torch.Tensor, probs_V: torch.Tensor) -> float:
    """Return the p-value of the chi-square test; ids expected fewer than five times count as one."""
    counts_V = torch.bincount(tokens_N, minlength=len(probs_V)).double()
    expected_V = probs_V.double() * len(tokens_N)
    common = expected_V >= 5
    observed = [*counts_V[common].tolist(), counts_V[~common].sum().item()]
    expected = [*expected_V[common].tolist(), expected_V[~common].sum().item()]
    scale = sum(observed) / sum(expected)
    return float(chisquare(observed, [e * scale for e in expected]).pvalue)
