"""TRL 1.12's PPOTrainer at its turns: python -m benchmarks.peers.trl_ppo FOLDER; in the environment made for it."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.turns import Turns, read
from instructloop.allocator import keep_freed_memory


def main() -> None:
    """Do one PPO iteration a turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precision", choices=("float32", "autocast", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep-memory", action="store_true", help="glibc's, as our command line does")
    parser.add_argument(
        "--micro-batch", type=int, help="episodes of one forward and backward; all of them if not given"
    )
    asked = parser.parse_args()
    turns = Turns()
    if asked.keep_memory:
        keep_freed_memory()
    if asked.precision == "autocast":
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"  # the trainer's own accelerator knows no other way
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    torch.set_num_threads(asked.threads)
    work, prompts = read(asked.folder)
    dtype = torch.bfloat16 if asked.precision == "bfloat16" else torch.float32
    policy, ref = (AutoModelForCausalLM.from_pretrained(asked.folder / "policy", dtype=dtype) for _ in range(2))
    reward, value = (
        AutoModelForSequenceClassification.from_pretrained(asked.folder / "reward", dtype=dtype, num_labels=1)
        for _ in range(2)
    )

    class Turn(TrainerCallback):
        def on_train_begin(self, *_: object, **__: object) -> None:
            turns.begin()

        def on_step_end(self, *_: object, **__: object) -> None:
            turns.end(**facts)
            turns.begin()

    # A step is made after `gradient_accumulation_steps` micro-batches, whatever the minibatches: with several of these
    # only 1 makes a step for each.
    episodes, micro = work["episodes"], asked.micro_batch or work["episodes"]
    facts: dict[str, float] = {}
    generate = ppo_trainer.batch_generation

    def timed(*given: Any) -> Any:
        started = time.perf_counter()
        tokens, logits = generate(*given)
        facts["rollout_seconds"] = time.perf_counter() - started
        facts["completion_tokens"] = int((tokens[:, work["prompt_tokens"] :] != policy.config.pad_token_id).sum())
        return tokens, logits

    ppo_trainer.batch_generation = timed
    with tempfile.TemporaryDirectory() as folder:
        trainer = PPOTrainer(
            args=PPOConfig(
                output_dir=folder,
                per_device_train_batch_size=micro,
                gradient_accumulation_steps=episodes // micro,
                num_mini_batches=work["minibatches"],
                num_ppo_epochs=1,
                total_episodes=1000 * episodes,
                local_rollout_forward_batch_size=episodes,
                response_length=work["completion_tokens"],
                stop_token="eos" if work["mean_length"] else None,
                temperature=1.0,
                missing_eos_penalty=1.0,
                learning_rate=1e-6,
                lr_scheduler_type="constant",
                bf16=False,
                gradient_checkpointing=False,
                num_sample_generations=0,
                report_to="none",
                logging_strategy="no",
                save_strategy="no",
                disable_tqdm=True,
                use_cpu=not torch.cuda.is_available(),
            ),
            processing_class=AutoTokenizer.from_pretrained(asked.folder / "policy", padding_side="left"),
            model=policy,
            ref_model=ref,
            reward_model=reward,
            value_model=value,
            train_dataset=Dataset.from_dict({"input_ids": prompts}),
            callbacks=[Turn()],
        )
        trainer.train()


if __name__ == "__main__":
    main()
