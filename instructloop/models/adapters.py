"""Low-rank adapters through peft: put on a model, merged, saved, read; and copies of a model that share its weights."""

from __future__ import annotations

import contextlib
import copy
import importlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from instructloop.files import naming
from instructloop.models.card import write_card
from instructloop.models.lora import Lora

ADAPTER = "default"
"""peft's name for the adapter; a module tree has one or none, and networks that share weights have a tree each."""
PREFIX = "base_model.model."
"""What peft puts before a weight's name in a file."""
Model = TypeVar("Model", bound=nn.Module)


def add_adapter(model: PreTrainedModel, lora: Lora, *, seed: int) -> None:
    """Freeze a model and put a trainable adapter, float32, on linear layers of its transformer; its head gets none.

    A is drawn from `seed` as peft draws it (Kaiming, uniform), B is 0: at first the model says what it said.
    ValueError where `targets` names no linear layer of the transformer.
    """
    config = _peft().LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=_target_names(model, lora),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        task_type="SEQ_CLS" if hasattr(model, "score") else "CAUSAL_LM",
    )
    _inject(model, config)
    generator = torch.Generator().manual_seed(seed)
    for layer in adapter_layers(model).values():
        weight = layer.lora_A[ADAPTER].weight
        drawn = nn.init.kaiming_uniform_(torch.empty(weight.shape), a=math.sqrt(5), generator=generator)
        with torch.no_grad():
            weight.copy_(drawn)


def _inject(model: PreTrainedModel, config: Any) -> None:
    with torch.random.fork_rng(devices=[]):  # what peft draws is overwritten; the caller's RNG must not move
        _peft().inject_adapter_in_model(config, model, ADAPTER)
    for name, layer in adapter_layers(model).items():
        assert name.startswith(f"{model.base_model_prefix}."), f"an adapter on the head: {name}"
        layer.lora_A[ADAPTER].float()  # peft makes them in the type of W
        layer.lora_B[ADAPTER].float()


def _peft() -> Any:
    try:
        return importlib.import_module("peft")
    except ImportError as error:
        raise ValueError(f"LoRA needs peft ({error}): pip install 'instructloop[lora]'") from error


def _target_names(model: PreTrainedModel, lora: Lora) -> list[str]:
    """Return the last parts of the names of the layers that get an adapter."""
    names = {
        name.rsplit(".", 1)[-1]
        for name, module in model.base_model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    }
    if unknown := sorted(set(lora.targets) - names) if lora.targets != "all-linear" else []:
        raise ValueError(
            f"lora.targets: {', '.join(unknown)} is no linear layer of a {type(model).__name__}'s transformer; "
            f"it has {', '.join(sorted(names))}"
        )
    return sorted(names if lora.targets == "all-linear" else lora.targets)


def adapter_layers(model: nn.Module) -> dict[str, Any]:
    """Return the layers that carry an adapter, peft's own, by their place in the model; none for a plain model."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


@contextlib.contextmanager
def merged(model: nn.Module, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Within, a model with an adapter is a plain one of weights W + alpha / rank * B A; a plain model stays as it is.

    The sum is made in float32 and kept in `dtype` (None: the type of W) in tensors of its own: other networks on the
    same W see nothing of it, and afterwards W and adapter stand where they stood, bit for bit.
    """
    taken: dict[str, tuple[Any, nn.Parameter]] = {}
    try:
        for name, layer in adapter_layers(model).items():
            base = layer.get_base_layer()
            weight = base.weight
            with torch.no_grad():
                total = (weight.float() + _added(layer)).to(dtype or weight.dtype)
            taken[name] = layer, weight
            base.weight = nn.Parameter(total, requires_grad=False)
            model.set_submodule(name, base)
        yield
    finally:
        for name, (layer, weight) in taken.items():
            layer.get_base_layer().weight = weight
            model.set_submodule(name, layer)


def _added(layer: Any) -> Tensor:
    """Return alpha / rank * B A in float32, laid out as W is; peft would round it to the type of A and B."""
    product = layer.lora_B[ADAPTER].weight.float() @ layer.lora_A[ADAPTER].weight.float()
    return (product.T if layer.fan_in_fan_out else product) * layer.scaling[ADAPTER]


def sharing_weights(model: Model) -> Model:
    """Return a copy of a model, a tree of modules beside it, on the same frozen weights; what is trained is its own.

    The tensors are the same, so they take no memory; what is put on the copy, an adapter or a head, is on it alone.
    """
    frozen = {id(parameter): parameter for parameter in model.parameters() if not parameter.requires_grad}
    return copy.deepcopy(model, frozen)


def save_adapter(
    model: PreTrainedModel, path: str | Path, *, base: str, about: str, more: Mapping[str, Any] | None = None
) -> None:
    """Write an adapter as peft does: config, safetensors, model card; a classifier's head is among the weights.

    `base` is what the card and the config call the model that it belongs on; `more` goes into `instructloop.json`.
    """
    folder = Path(path)
    weights = {name: tensor.detach().contiguous().cpu() for name, tensor in _own_weights(model).items()}
    config: Any = model.peft_config
    values = config[ADAPTER].to_dict()
    values |= {
        "target_modules": sorted(values["target_modules"]),  # a set: its order would differ from run to run
        "base_model_name_or_path": base,
        "modules_to_save": ["score"] if hasattr(model, "score") else None,
        "inference_mode": True,
    }
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        for file, content in (("adapter_config.json", values), ("instructloop.json", dict(more or {}))):
            (folder / file).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        task = "text-classification" if hasattr(model, "score") else "text-generation"
        write_card(folder, task=task, about=about, tags=["lora"], library="peft", base=base)


def load_adapter(model: PreTrainedModel, path: str | Path) -> dict[str, Any]:
    """Put the adapter of a folder on a plain model, frozen base, the head's weights too; return `instructloop.json`.

    ValueError when the folder is torn, or is an adapter of a model of another shape.
    """
    folder = Path(path)
    try:
        config = _peft().LoraConfig.from_pretrained(str(folder))
        weights = load_file(folder / "adapter_model.safetensors")
        more = json.loads((folder / "instructloop.json").read_text(encoding="utf-8"))
        config.modules_to_save = None  # peft would keep two heads; the model's own takes the weights
        config.inference_mode = False
        _inject(model, config)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise ValueError(f"{folder} is no adapter for {type(model).__name__} that can be read: {error}") from error
    own = _own_weights(model)
    if wrong := sorted(own.keys() ^ weights.keys()) or sorted(n for n in own if own[n].shape != weights[n].shape):
        raise ValueError(f"{folder} is an adapter of another model than this {type(model).__name__}: {wrong[0]}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])
    return more


def _own_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return what an adapter's file holds, by the names that peft gives: A and B of each layer, a classifier's head."""
    state = dict(model.named_parameters())
    own: dict[str, Tensor] = {
        f"{PREFIX}{name}.{part}.weight": state[f"{name}.{part}.{ADAPTER}.weight"]
        for name in adapter_layers(model)
        for part in ("lora_A", "lora_B")
    }
    return own | ({f"{PREFIX}score.weight": state["score.weight"]} if "score.weight" in state else {})
