"""A model's size from its configuration is that of the model; costs are what torch counts and keeps."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from instructloop.core.costs import activation_bytes, adapter_parameters, forward_flops
from instructloop.models.lm import completion_logprobs, save_lm
from instructloop.models.shape import adapter_sides, built, shape_of
from tests.tiny import tiny_lm

KINDS = [{}, {"tied": False}, {"architecture": "gpt2"}, {"architecture": "qwen3"}, {"architecture": "gpt_neox"}]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_parameters_are_counted_as_transformers_counts_them(tmp_path: Path, kind: dict):
    model, text = tiny_lm(**kind)
    save_lm(model, text, tmp_path / "model")
    (tmp_path / "model/model.safetensors").unlink()  # the configuration is enough
    described = built(tmp_path / "model")
    shape = shape_of(described)
    assert shape.parameters == model.num_parameters() == sum(p.numel() for p in model.parameters())
    assert shape.matrices == model.num_parameters(exclude_embeddings=True) - (
        model.get_output_embeddings().weight.numel() if not kind.get("tied", True) else 0
    )
    assert all(parameter.device.type == "meta" for parameter in described.parameters())


def test_an_adapter_s_parameters_are_those_that_peft_makes():
    peft = pytest.importorskip("peft")
    model, _ = tiny_lm()
    expected = adapter_parameters(adapter_sides(model, ("q_proj", "down_proj")), 3)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=3, target_modules=["q_proj", "down_proj"]))
    assert wrapped.get_nb_trainable_parameters()[0] == expected


def test_operations_are_those_that_torch_counts():
    model, _ = tiny_lm(width=64)
    shape = shape_of(model)
    model.set_attn_implementation("eager")  # the fused one it does not count on a CPU
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.ones(3, 20, dtype=torch.long))
    # torch counts all of attention, we the half that a causal mask leaves: the rest stands once more here.
    half = 3 * 20 * 2 * 20 * shape.layers * shape.heads * shape.head_width
    assert forward_flops(shape, 60, 60, 20) + half == pytest.approx(counter.get_total_flops(), rel=0.01)  # norms


@pytest.mark.parametrize(("dtype", "itemsize"), [(torch.float32, 4), (torch.bfloat16, 2)])
@pytest.mark.parametrize("is_fused", [False, True])
def test_activations_are_what_autograd_keeps(
    dtype: torch.dtype, itemsize: int, is_fused: bool, monkeypatch: pytest.MonkeyPatch
):
    """Within a seventh: a few tensors without a name of their own are kept, too, and some are shared."""
    model, _ = tiny_lm(width=64, context=256)
    model.to(dtype)
    if is_fused:
        monkeypatch.setattr("instructloop.models.attention.FUSED_BYTES", 0)
    tokens_BT = torch.randint(3, 290, (4, 100), generator=torch.Generator().manual_seed(0))
    attention_BT = torch.arange(100) >= torch.tensor([1, 0, 0, 0])[:, None]  # without padding there is no packing
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and tensor.is_floating_point() and tensor.shape[-1] != 290:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = completion_logprobs(model, tokens_BT, attention_BT, 50, temperature=1.0)
    assert loss.requires_grad
    # The last token predicts nothing, so rows of 99 are read.
    expected = activation_bytes(shape_of(model), 4 * 99, 99, itemsize, is_fused=is_fused)
    assert expected == pytest.approx(sum(kept.values()), rel=1 / 7)
