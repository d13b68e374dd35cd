"""Bugs in computing with bfloat16: masters, gradients, what is saved, what a rollout is compared with."""

from tests.mutants.bug import Bug

PRECISION = (
    Bug(
        "an_update_of_the_rounded_weights_alone",
        "decision 0007",
        "instructloop/train/language.py",
        "[master(parameter) for parameter in parameters if parameter.requires_grad]",
        "[parameter for parameter in parameters if parameter.requires_grad]",
        ("tests/models/test_masters.py::test_updates_smaller_than_bfloat16_can_show_are_not_lost",),
    ),
    Bug(
        "masters_not_rounded_into_the_weights",
        "decision 0007",
        "instructloop/train/loop.py",
        "    round_masters(task.model)\n",
        "    round_masters(nn.Module())\n",
        ("tests/stages/test_s3_sft.py::test_sft_learns_a_mapping_that_the_base_does_not_know",),
    ),
    Bug(
        "gradients_added_up_in_bfloat16",
        "decision 0007",
        "instructloop/models/masters.py",
        "owner.grad.add_(weight.grad)",
        "owner.grad = (owner.grad.to(weight.dtype) + weight.grad).float()",
        ("tests/models/test_masters.py::test_gradients_of_micro_batches_add_up_in_float32",),
    ),
    Bug(
        "masters_not_in_the_checkpoint",
        "pitfall 37, decision 0007",
        "instructloop/train/loop.py",
        '"model": MasterState(task.model)',
        '"model": task.model',
        ("tests/stages/test_s3_sft.py::test_a_crash_changes_nothing_with_text_and_dropout",),
    ),
    Bug(
        "rounded_weights_are_saved",
        "decision 0007",
        "instructloop/models/lm.py",
        "with quiet(), as_masters(model), merged(model, torch.float32):",
        "with quiet(), merged(model, torch.float32):",
        ("tests/models/test_masters.py::test_what_is_saved_are_the_masters_and_in_bfloat16_the_model_itself",),
    ),
    Bug(
        "the_average_of_rounded_weights",
        "decision 0007",
        "instructloop/models/masters.py",
        "{name: master(weight) for name, weight in model.named_parameters() if weight.requires_grad}",
        "{name: weight for name, weight in model.named_parameters() if weight.requires_grad}",
        ("tests/train/test_loop.py::test_the_average_of_a_model_in_bfloat16_is_that_of_its_masters",),
    ),
    Bug(
        "a_rollout_in_bfloat16_is_never_doubted",
        "pitfall 20",
        "instructloop/train/on_policy.py",
        '"bfloat16": Rounding(0.05, 1e-2, 0.1)',
        '"bfloat16": Rounding(9.0, 9.0, 1.0)',
        ("tests/train/test_ppo_guards.py",),
    ),
    Bug(
        "activations_are_kept_all_the_same",
        "decision 0007",
        "instructloop/models/recomputing.py",
        "    model.train()\n",
        "    model.eval()\n",
        ("tests/models/test_recomputing.py",),
    ),
)
