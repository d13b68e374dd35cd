"""What loop.yaml sets so that the microworld's whole loop, with every step it has, takes half a minute."""

TINY = {
    "pretraining": {"num_documents": 1500, "num_heldout": 20},
    "base": {"width": 32, "layers": 2, "heads": 2, "num_steps": 60},
    "demonstrations": {"num_train": 40, "num_valid": 8},
    "sft": {"num_epochs": 2},
    "samples": {"num_prompts": {"train": 60, "valid": 40}, "keep_unfinished": True, "max_new_tokens": 12},
    "samples_second": {"num_prompts": {"train": 40, "valid": 20}, "keep_unfinished": True, "max_new_tokens": 12},
    "samples_third": {"num_prompts": {"train": 20, "valid": 10}, "keep_unfinished": True, "max_new_tokens": 12},
    "sft_chosen": {"num_prompts": 8, "min_finished_fraction": 0.0, "max_new_tokens": 12},
    "base_prompted": {"num_prompts": 8, "max_new_tokens": 12},
    "policy": {"num_prompts": 8, "min_finished_fraction": 0.0, "max_text_loss_rise": None, "num_texts": 0},
    "eval_samples": {"num_prompts": {"test": 20}, "max_new_tokens": 12},
    "evaluation": {"num_samples": 4, "num_drift_prompts": 4, "benchmarked": ["base", "ppo_ptx"]},
} | {
    name: {"num_iterations": 2, "warmup_iterations": 1, "episodes_per_iteration": 16, "max_new_tokens": 12}
    for name in ("ppo_first", "ppo_second", "ppo", "ppo_ptx", "ppo_loose", "ppo_ptx_loose")
}
