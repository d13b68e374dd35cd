"""Bugs of adapters: which network has one, whose it is, what is merged, saved and kept in a checkpoint."""

from tests.mutants.bug import Bug

ADAPTERS_PY, LM = (f"instructloop/models/{name}.py" for name in ("adapters", "lm"))
SCALAR, ACTORS, TRAINED = (
    "instructloop/models/scalar.py",
    "instructloop/stages/actors.py",
    "instructloop/models/masters.py",
)
OF_MODELS, OF_TRAINING, OF_STAGES = (
    f"tests/{name}.py" for name in ("models/test_adapters", "train/test_lora", "stages/test_lora")
)

ADAPTERS = (
    Bug(
        "reference_with_the_policys_adapter",
        "decision 0010",
        ACTORS,
        "model = sharing_weights(base)",
        "model = base",
        (OF_STAGES,),
    ),
    Bug(
        "value_trains_the_reward_models_adapter",
        "decision 0010",
        ADAPTERS_PY,
        "for parameter in model.parameters() if not parameter.requires_grad}",
        "for parameter in model.parameters()}",
        (OF_MODELS,),
    ),
    Bug(
        "value_and_reward_model_share_a_head",
        "decision 0010",
        SCALAR,
        "self.head.weight = nn.Parameter(self.head.weight.detach().float().clone())",
        "self.head.weight.requires_grad_(True)",
        (OF_MODELS,),
    ),
    Bug(
        "merge_forgotten_when_a_policy_is_saved",
        "decision 0010",
        LM,
        "with quiet(), as_masters(model), merged(model, torch.float32):",
        "with quiet(), as_masters(model):",
        (OF_MODELS,),
    ),
    Bug(
        "merge_forgotten_when_a_reward_model_is_saved",
        "decision 0010",
        SCALAR,
        "with quiet(), score_bias, as_masters(self.model), merged(self.model, torch.float32):",
        "with quiet(), score_bias, as_masters(self.model):",
        (OF_MODELS,),
    ),
    Bug(
        "merged_without_alpha_over_rank",
        "Hu et al. 2021, 4.1",
        ADAPTERS_PY,
        "(product.T if layer.fan_in_fan_out else product) * layer.scaling[ADAPTER]",
        "product.T if layer.fan_in_fan_out else product",
        (OF_MODELS,),
    ),
    Bug(
        "merged_into_the_shared_weights",
        "decision 0010",
        ADAPTERS_PY,
        "base.weight = nn.Parameter(total, requires_grad=False)",
        "base.weight.data = total",
        (OF_MODELS,),
    ),
    Bug(
        "adapter_stays_merged_after_sampling",
        "decision 0010",
        ADAPTERS_PY,
        "            model.set_submodule(name, layer)\n",
        "            pass\n",
        (OF_MODELS,),
    ),
    Bug(
        "sampled_without_the_adapter",
        "decision 0010",
        ADAPTERS_PY,
        "total = (weight.float() + _added(layer)).to(dtype or weight.dtype)",
        "total = weight.detach().clone()",
        (OF_MODELS, OF_TRAINING),
    ),
    Bug(
        "adapter_put_on_other_weights_than_its_own",
        "decision 0010",
        ACTORS,
        'return made_on["base"] == weight_files(init)',
        "return True",
        (OF_STAGES,),
    ),
    Bug(
        "checkpoint_of_the_frozen_base",
        "pitfall 37",
        TRAINED,
        "return {name: weight.detach() for name, weight in trained(self.model).items()}",
        "return {name: weight.detach() for name, weight in self.model.named_parameters()}",
        (OF_TRAINING,),
    ),
    Bug(
        "bias_of_the_reward_model_lost_with_its_adapter",
        "paper C.2",
        SCALAR,
        "shared._train_head(bias)",
        "shared._train_head(0.0)",
        (OF_MODELS,),
    ),
)
