"""Adapters through peft: nothing at first, one copy of the base, each network by itself, merged is adapter on."""

import json
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from instructloop.models.adapters import (
    adapter_layers,
    add_adapter,
    load_adapter,
    merged,
    save_adapter,
    sharing_weights,
)
from instructloop.models.lm import completion_logprobs, load_lm, save_lm
from instructloop.models.lora import Lora
from instructloop.models.masters import trained
from instructloop.models.sampler import sample
from instructloop.models.scalar import ScalarModel
from tests.tiny import tiny_lm

FAMILY = pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "qwen2", "gemma3_text"])
LORA = Lora(rank=3, alpha=6.0, targets="all-linear")
PROMPTS, COMPLETIONS = [[10, 11, 12], [13, 14, 15, 16, 17, 18]], [[20, 21, 22], [23, 0]]


def logprobs(model, text):
    tokens_BT, attention_BT, mask_BC = text.pad_left_right(PROMPTS, COMPLETIONS)
    with torch.no_grad():
        found_BC = completion_logprobs(model, tokens_BT, attention_BT, mask_BC.shape[1], temperature=1.0)
    return torch.where(mask_BC, found_BC, 0)


def scores(model, text):
    with torch.no_grad():
        return model.score(*text.pad_right([p + c for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]))


def moved(model, *, seed: int = 7):
    """The model with everything that is trained far from where it began."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def four(family: str, folder: Path):
    """Policy, value function, reward model and reference on one base, and their Text."""
    base, text = tiny_lm(family, seed=3)
    trained, _ = ScalarModel.from_lm(base, text, seed=1)
    trained.add_adapter(LORA, seed=1)
    moved(trained).shift(0.75)
    trained.save(folder / "model", text)
    trained.save_adapter(folder / "adapter", base="base", about="", more={})
    policy = sharing_weights(base.requires_grad_(False))
    add_adapter(policy, LORA, seed=2)
    reward, _ = ScalarModel.load_shared(base, folder / "adapter", folder / "model")
    value = reward.sharing(LORA, seed=3)
    reward.requires_grad_(False)
    return {"policy": policy, "value": value, "reward": reward, "ref": base}, text, trained


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@FAMILY
def test_a_fresh_adapter_changes_nothing_and_the_base_stays_what_it_was(family: str):
    base, text = tiny_lm(family)
    plain, before = state(base), logprobs(base, text)
    model = sharing_weights(base.requires_grad_(False))
    add_adapter(model, LORA, seed=1)
    assert torch.equal(logprobs(model, text), before)
    moved(model)
    assert (logprobs(model, text) - before).abs().max() > 0.1
    assert torch.equal(logprobs(base, text), before)
    assert same(state(base), plain)


@FAMILY
def test_merged_weights_say_what_the_adapter_says_and_leave_no_trace(family: str):
    base, text = tiny_lm(family)
    model = sharing_weights(base.requires_grad_(False))
    add_adapter(model, LORA, seed=1)
    moved(model)
    before, own, plain = logprobs(model, text), state(model), state(base)
    with merged(model):
        assert not any("lora" in name for name, _ in model.named_modules())
        torch.testing.assert_close(logprobs(model, text), before, atol=1e-5, rtol=0)
        assert same(state(base), plain)
    assert same(state(model), own)
    assert torch.equal(logprobs(model, text), before)
    with pytest.raises(KeyError), merged(model):
        raise KeyError
    assert same(state(model), own)


def test_a_merge_is_the_sum_by_hand():
    model, _ = tiny_lm("llama")
    add_adapter(model, Lora(rank=2, alpha=6.0, targets=("q_proj",)), seed=1)
    layer = moved(model).model.layers[0].self_attn.q_proj
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = layer.base_layer.weight + 6.0 / 2 * sum(torch.outer(up[:, i], down[i]) for i in range(2))
    with merged(model):
        torch.testing.assert_close(model.model.layers[0].self_attn.q_proj.weight, expected.detach(), atol=1e-6, rtol=0)


@FAMILY
def test_samples_come_from_merged_weights_with_the_log_probabilities_of_the_adapter(family: str):
    model, text = tiny_lm(family)
    add_adapter(model, LORA, seed=1)
    moved(model)
    own = state(model)
    found = sample(model, text, PROMPTS, max_new_tokens=6, temperature=1.0, seeds=[1, 2])
    expected_BC = completion_logprobs(
        model, found.tokens_BT, found.attention_BT, found.mask_BC.shape[1], temperature=1.0
    )
    difference_BC = torch.where(found.mask_BC, expected_BC - found.logprobs_BC, 0)
    assert difference_BC.abs().max() < 1e-5
    assert same(state(model), own)


@FAMILY
def test_four_networks_stand_on_one_copy_of_the_base_and_do_not_touch_one_another(family: str, tmp_path: Path):
    networks, text, trained = four(family, tmp_path)
    base_bytes, total = 0, {}
    for name, network in networks.items():
        for parameter in network.parameters():
            total[parameter.data_ptr()] = parameter.nbytes
        if name == "ref":
            base_bytes = sum(p.nbytes for p in network.parameters())
    own = [
        p for name, network in networks.items() if name != "ref" for n, p in network.named_parameters() if "lora_" in n
    ]
    heads = sum(networks[name].head.weight.nbytes + 4 for name in ("value", "reward"))
    assert sum(total.values()) == base_bytes + sum(p.nbytes for p in own) + heads
    assert torch.equal(scores(networks["value"], text), scores(networks["reward"], text))
    torch.testing.assert_close(scores(networks["reward"], text), scores(trained, text), atol=1e-5, rtol=0)
    assert torch.equal(logprobs(networks["policy"], text), logprobs(networks["ref"], text))

    def said():
        return {
            name: logprobs(n, text) if name in ("policy", "ref") else scores(n, text) for name, n in networks.items()
        }

    for changed in ("policy", "value"):
        before = said()
        moved(networks[changed])
        after = said()
        assert [name for name in networks if not torch.equal(before[name], after[name])] == [changed]


@FAMILY
def test_a_policy_saved_with_an_adapter_is_a_plain_model_and_the_adapter_loads_in_peft(family: str, tmp_path: Path):
    base, text = tiny_lm(family, tied=family in ("llama", "gpt2"))
    save_lm(base, text, tmp_path / "base")
    model = sharing_weights(base.requires_grad_(False))
    add_adapter(model, LORA, seed=1)
    expected = logprobs(moved(model), text)
    save_lm(model, text, tmp_path / "model")
    save_adapter(model, tmp_path / "adapter", base="base", about="")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert not any("lora" in name for name, _ in plain.named_modules())
    torch.testing.assert_close(logprobs(plain, text), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(logprobs(load_lm(tmp_path / "model")[0], text), expected, atol=1e-5, rtol=0)
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter")
    torch.testing.assert_close(logprobs(again.get_base_model().eval(), text), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(logprobs(model, text), expected, atol=0, rtol=0)


@FAMILY
def test_a_reward_model_with_an_adapter_scores_alike_in_all_its_forms(family: str, tmp_path: Path):
    base, lm_text = tiny_lm(family, pad_is_eos=family in ("llama", "gpt_neox"))
    model, text = ScalarModel.from_lm(base, lm_text, seed=1)
    model.add_adapter(LORA, seed=1)
    moved(model).shift(0.5)
    expected = scores(model, text)
    model.save(tmp_path / "model", text)
    model.save_adapter(tmp_path / "adapter", base="base", about="", more={"of": "base"})
    assert torch.equal(scores(model, text), expected)  # saving changed nothing
    loaded, loaded_text = ScalarModel.load(tmp_path / "model")
    torch.testing.assert_close(scores(loaded, loaded_text), expected, atol=1e-5, rtol=0)
    shared, shared_text = ScalarModel.load_shared(base, tmp_path / "adapter", tmp_path / "model")
    assert shared_text.stop_ids == text.stop_ids
    torch.testing.assert_close(scores(shared, lm_text), expected, atol=1e-5, rtol=0)
    row = torch.tensor([PROMPTS[0] + COMPLETIONS[0]])
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    bias = getattr(plain.config, "score_bias", 0.0)
    assert plain(row).logits.item() + bias == pytest.approx(expected[0].item(), abs=1e-5)
    base.save_pretrained(tmp_path / "base")
    head = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=1)
    again = PeftModel.from_pretrained(head, tmp_path / "adapter").eval()
    assert again(row).logits.item() + model.bias.item() == pytest.approx(expected[0].item(), abs=1e-5)


def test_a_value_function_on_a_whole_reward_model_shares_its_transformer_and_not_its_head():
    reward, text = ScalarModel.from_lm(*tiny_lm("gpt2"), seed=1)
    reward.shift(0.5)
    before = scores(reward, text)
    value = reward.sharing(LORA, seed=2)
    assert torch.equal(scores(value, text), before)
    moved(value)
    assert torch.equal(scores(reward, text), before)
    assert not torch.equal(scores(value, text), before)
    frozen = [p for p in value.parameters() if not p.requires_grad]
    assert {id(p) for p in frozen} <= {id(p) for p in reward.parameters()}


def test_an_adapter_is_drawn_from_its_seed_and_moves_no_random_state():
    models = [tiny_lm()[0] for _ in range(3)]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    for model, seed in zip(models, (1, 1, 2), strict=True):
        add_adapter(model, LORA, seed=seed)
    assert torch.equal(torch.rand(3), expected)
    assert same(state(models[0]), state(models[1]))
    assert not same(state(models[0]), state(models[2]))
    drawn = models[0].model.layers[1].mlp.down_proj.lora_A["default"].weight
    assert drawn.abs().max() <= 1 / drawn.shape[1] ** 0.5  # Kaiming, a = sqrt(5): uniform within 1 / sqrt(inputs)
    assert drawn.abs().max() > 0.8 / drawn.shape[1] ** 0.5


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_on_a_base_in_bfloat16_what_is_trained_is_float32_and_saved_without_rounding(family: str, tmp_path: Path):
    base, text = tiny_lm(family)
    base.to(torch.bfloat16).requires_grad_(False)
    model = sharing_weights(base)
    add_adapter(model, LORA, seed=1)
    reward, reward_text = ScalarModel.from_lm(base, text, seed=1)
    reward.add_adapter(LORA, seed=1)
    assert {p.dtype for one in (model, reward) for p in trained(one).values()} == {torch.float32}
    assert torch.equal(logprobs(model, text), logprobs(base, text))
    before = scores(moved(reward), text)
    name, layer = next(iter(adapter_layers(moved(model)).items()))
    with merged(model):
        rounded = model.get_submodule(name).weight
        assert rounded.dtype == torch.bfloat16
    save_lm(model, text, tmp_path / "model")
    reward.shift(0.5)
    reward.save(tmp_path / "reward", reward_text)
    saved = load_lm(tmp_path / "model")[0].get_submodule(name).weight
    expected = layer.base_layer.weight.float() + layer.get_delta_weight("default")
    assert torch.equal(saved, expected)
    assert torch.equal(saved.bfloat16(), rounded)
    found = scores(*ScalarModel.load(tmp_path / "reward"))
    torch.testing.assert_close(found, before + 0.5, atol=0.1, rtol=0)  # the other computes in bfloat16


@pytest.mark.parametrize("targets", [(), ("q_proj", "q_proj"), "some"])
def test_targets_that_mean_nothing_are_refused(targets):
    with pytest.raises(ValueError, match="targets"):
        Lora(rank=1, alpha=1.0, targets=targets)


def test_targets_that_the_model_lacks_are_refused_with_those_it_has():
    with pytest.raises(ValueError, match=r"c_attn, lm_head is no linear layer .*; it has down_proj, gate_proj, k_proj"):
        add_adapter(tiny_lm()[0], Lora(rank=1, alpha=1.0, targets=("lm_head", "q_proj", "c_attn")), seed=1)


def test_named_targets_alone_are_adapted():
    model, _ = tiny_lm("gpt2")
    add_adapter(model, Lora(rank=1, alpha=1.0, targets=("c_fc",)), seed=1)
    adapted = {name.split(".lora_")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert adapted == {"transformer.h.0.mlp.c_fc", "transformer.h.1.mlp.c_fc"}
    assert all(isinstance(layer.attn.c_attn, nn.Module) for layer in model.transformer.h)


def test_an_adapter_that_does_not_fit_or_is_torn_is_refused(tmp_path: Path):
    model, _ = tiny_lm("llama")
    add_adapter(model, LORA, seed=1)
    save_adapter(model, tmp_path, base="base", about="")
    with pytest.raises(ValueError, match="adapter of another model"):
        load_adapter(tiny_lm("llama", width=64)[0], tmp_path)
    with pytest.raises(ValueError, match="no adapter for GPT2LMHeadModel"):
        load_adapter(tiny_lm("gpt2")[0], tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match="no adapter for LlamaForCausalLM that can be read"):
        load_adapter(tiny_lm("llama")[0], tmp_path)


def test_an_adapter_folder_is_the_same_bytes_each_time_and_names_no_place_of_this_machine(tmp_path: Path):
    for name in ("a", "b"):
        model, _ = tiny_lm("gpt2")
        add_adapter(model, LORA, seed=1)
        save_adapter(model, tmp_path / name, base="r01-sft", about="An adapter.", more={"x": 1})
    for file in ("adapter_config.json", "adapter_model.safetensors", "instructloop.json", "README.md"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    config = json.loads((tmp_path / "a/adapter_config.json").read_text())
    assert config["target_modules"] == ["c_attn", "c_fc", "c_proj"]
    assert config["base_model_name_or_path"] == "r01-sft"
    assert config["fan_in_fan_out"] is True


def test_without_peft_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=r"LoRA needs peft .*: pip install 'instructloop\[lora\]'"):
        add_adapter(tiny_lm()[0], LORA, seed=1)
