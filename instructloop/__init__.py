"""The InstructGPT loop as one tool: prompts, demonstrations, SFT, rankings, reward model, PPO-ptx, evaluation."""

__version__ = "0.1.0"
