"""The loop that is tortured: the tiny one of the tests, with more PPO iterations to resume, and a steered KL."""

from tests.tiny_loop import TINY

SETTINGS = {
    step: {**fields, "num_iterations": 4} if "num_iterations" in fields else fields for step, fields in TINY.items()
}
SETTINGS["ppo_ptx"] |= {"kl_target": 0.5, "kl_horizon": 100.0, "snapshot_every": 2}
