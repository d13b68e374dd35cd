"""Learning-rate schedules as pure functions from the step, counted from 0, to a factor of the peak rate."""

from __future__ import annotations

import math


def cosine_to_tenth(step: int, total: int) -> float:
    """Return .1 + .9 (1 + cos(pi step / total)) / 2: 1 at step 0, .1 at step `total` (paper C.1, C.2); no warm-up."""
    if not 0 <= step <= total or total == 0:
        raise ValueError(f"step {step} must lie in 0..total, total {total} must be positive")
    return 0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * step / total))


def constant_after_warmup(step: int, warmup_steps: int, start: float = 0.1) -> float:
    """Return a straight line from `start` at step 0 to 1 at step `warmup_steps`, and 1 ever after (paper C.4)."""
    if step < 0 or warmup_steps < 0:
        raise ValueError(f"step {step} and warmup_steps {warmup_steps} must not be negative")
    if step >= warmup_steps:
        return 1.0
    return start + (1.0 - start) * step / warmup_steps
