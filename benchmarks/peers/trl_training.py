"""TRL 1.16's RewardTrainer and SFTTrainer at their turns: python -m benchmarks.peers.trl_training FOLDER."""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.turns import Turns, read
from instructloop.allocator import keep_freed_memory


def pairs(rows: list[dict[str, Any]]) -> list[dict[str, list[int]]]:
    """Return every comparison of every ranking, best first: what a trainer of pairs is given."""
    return [
        {"chosen_ids": row["prompt"] + better, "rejected_ids": row["prompt"] + worse}
        for row in rows
        for better, worse in itertools.combinations(row["completions"], 2)
    ]


def main() -> None:
    """Make one step of the reward model, or one pass over the demonstrations, a turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precision", choices=("float32", "autocast", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep-memory", action="store_true", help="glibc's, as our command line does")
    parser.add_argument("--micro-batch", type=int, help="rows of one forward and backward; all of a step if not given")
    parser.add_argument("--packing", choices=("none", "bfd", "wrapped"), default="none")
    asked = parser.parse_args()
    turns = Turns()
    if asked.keep_memory:
        keep_freed_memory()
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
    from trl import RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

    torch.set_num_threads(asked.threads)
    work, rows = read(asked.folder)
    dtype = torch.bfloat16 if asked.precision == "bfloat16" else torch.float32
    is_reward = work["task"] == "reward"
    kind = AutoModelForSequenceClassification if is_reward else AutoModelForCausalLM
    labels = {"num_labels": 1} if is_reward else {}
    model = kind.from_pretrained(asked.folder / ("reward" if is_reward else "policy"), dtype=dtype, **labels)
    facts: dict[str, Any] = {}

    class Turn(TrainerCallback):
        def on_train_begin(self, *_: object, **__: object) -> None:
            turns.begin()

        def on_step_end(self, args: Any, state: Any, *_: object, **__: object) -> None:
            self.is_due = state.global_step % steps_per_turn == 0

        def on_step_begin(self, args: Any, state: Any, *_: object, **__: object) -> None:
            if state.global_step and self.is_due:
                turns.end(**facts)
                turns.begin()

    if is_reward:
        data = pairs(rows)
        rows_per_step = work["rows"] * work["completions_per_prompt"] * (work["completions_per_prompt"] - 1) // 2
        steps_per_turn = 1
    else:
        masks = ([0] * len(row["prompt"]) + [1] * len(row["completion"]) for row in rows)
        whole = (row["prompt"] + row["completion"] for row in rows)
        data = [{"input_ids": ids, "completion_mask": mask} for ids, mask in zip(whole, masks, strict=True)]
        facts["tokens"] = sum(len(row["input_ids"]) for row in data)
        rows_per_step = work["rows_per_step"]
    with tempfile.TemporaryDirectory() as folder:
        common: dict[str, Any] = {
            "output_dir": folder,
            "num_train_epochs": 10_000,
            "learning_rate": 1e-6,
            "lr_scheduler_type": "constant",
            "bf16": asked.precision == "autocast",
            "gradient_checkpointing": False,
            "report_to": "none",
            "logging_strategy": "no",
            "save_strategy": "no",
            "disable_tqdm": True,
            "use_cpu": not torch.cuda.is_available(),
            "dataloader_pin_memory": False,
        }
        tokenizer = AutoTokenizer.from_pretrained(asked.folder / "policy")
        dataset = Dataset.from_list(data)
        if is_reward:
            micro = asked.micro_batch or rows_per_step
            args: Any = RewardConfig(
                per_device_train_batch_size=micro,
                gradient_accumulation_steps=rows_per_step // micro,
                train_sampling_strategy="sequential",  # a prompt's pairs in the same step
                max_length=None,
                **common,
            )
            trainer: Any = RewardTrainer(model, args, None, dataset, processing_class=tokenizer, callbacks=[Turn()])
        else:
            if asked.packing != "none":
                packed_rows = -(-facts["tokens"] // work["max_length"])
                rows_per_step = max(1, packed_rows * rows_per_step // len(rows))
            micro = min(asked.micro_batch or rows_per_step, rows_per_step)
            args = SFTConfig(
                per_device_train_batch_size=micro,
                gradient_accumulation_steps=rows_per_step // micro,
                max_length=work["max_length"],
                packing=asked.packing != "none",
                packing_strategy=asked.packing if asked.packing != "none" else "bfd",
                completion_only_loss=True,
                train_sampling_strategy="group_by_length" if asked.packing == "none" else "random",
                **common,
            )
            trainer = SFTTrainer(model, args, None, dataset, processing_class=tokenizer, callbacks=[Turn()])
            steps_per_turn = max(1, -(-len(trainer.train_dataset) // rows_per_step))
        if is_reward:
            first = trainer.data_collator(data[:rows_per_step])
            with torch.no_grad():
                facts["first_loss"] = float(trainer.compute_loss(trainer.model, dict(first)))
        trainer.train()


if __name__ == "__main__":
    main()
