"""One number per sequence or per token: reward model and value function, as sequence-classification folders."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
)

from instructloop.files import naming
from instructloop.models.adapters import (
    adapter_layers,
    add_adapter,
    load_adapter,
    merged,
    save_adapter,
    sharing_weights,
)
from instructloop.models.card import write_card
from instructloop.models.classifier import classifier_of
from instructloop.models.hidden import hidden_at
from instructloop.models.lm import UNREADABLE, context_length, embeddings, quiet, stop_ids_of, why
from instructloop.models.lora import Lora
from instructloop.models.masters import as_masters
from instructloop.models.text import Text, length_sorted_batches


class ScalarModel(nn.Module):
    """A transformer with a linear head to one number; `model` is transformers' sequence-classification class.

    `bias` is the head's bias, which that class lacks: `save` folds it into the final layer norm's bias or,
    where the final norm is an RMSNorm, writes it beside as `config.score_bias` (docs/decisions/0002-reward-bias.md).
    """

    def __init__(self, model: PreTrainedModel, bias: float = 0.0):
        super().__init__()
        head = getattr(model, "score", None)
        if not isinstance(head, nn.Linear) or head.out_features != 1 or head.bias is not None:
            raise ValueError(f"{type(model).__name__} has no linear head `score` with one output and no bias")
        self.model = model
        embeddings(model).padding_idx = None  # as in load_lm
        self.bias = nn.Parameter(torch.tensor(float(bias), dtype=torch.float32))

    @property
    def config(self) -> PreTrainedConfig:
        """The configuration of the transformer."""
        return self.model.config

    @property
    def head(self) -> nn.Linear:
        """The linear head, without its bias."""
        assert isinstance(self.model.score, nn.Linear)
        return self.model.score

    def per_token(
        self, tokens_BT: Int[Tensor, "B T"], attention_BT: Bool[Tensor, "B T"], *, last: int | None = None
    ) -> Float[Tensor, "B L"]:
        """Return value_BL, float32, of the `last` columns or of all: at t the head's number after tokens 0..t.

        Off the attention it means nothing.
        """
        num_before = 0 if last is None else attention_BT.shape[1] - last
        mask_BL = attention_BT[:, num_before:]
        value_M = self._at(tokens_BT, attention_BT, F.pad(mask_BL, (num_before, 0)))
        return torch.zeros(mask_BL.shape, device=mask_BL.device).masked_scatter(mask_BL, value_M)

    def score(
        self,
        tokens_BT: Int[Tensor, "B T"],
        attention_BT: Bool[Tensor, "B T"],
        prompt_B: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, " B"]:
        """Return score_B: the number at each row's last real token, whichever side the padding is on.

        What rows with the same number in `prompt_B` begin with is computed once; the scores are the same.
        """
        steps_T = torch.arange(attention_BT.shape[1], device=attention_BT.device)
        last_B = (attention_BT * steps_T).argmax(1)
        return self._at(tokens_BT, attention_BT, steps_T == last_B[:, None], prompt_B)

    def _at(
        self, tokens_BT: Tensor, attention_BT: Tensor, wanted_BT: Tensor, prompt_B: Tensor | None = None
    ) -> Float[Tensor, " M"]:
        hidden_MD = hidden_at(self.model.base_model, tokens_BT, attention_BT, wanted_BT, prompt_B=prompt_B)
        return F.linear(hidden_MD.float(), self.head.weight.float())[:, 0] + self.bias

    def shift(self, amount: float) -> None:
        """Add `amount` to every score and value, so that demonstrations average 0 (paper C.2)."""
        with torch.no_grad():
            self.bias += amount

    @staticmethod
    def from_lm(model: PreTrainedModel, text: Text, *, seed: int) -> tuple[ScalarModel, Text]:
        """Return a scalar model on a copy of the LM's transformer, head ~ N(0, 1/sqrt(D + 1)), bias 0, and its Text.

        Where pad is also EOS the copy gets a pad token of its own: transformers' class reads the last token that is not
        pad, and would read the one before EOS.
        """
        text = copy.deepcopy(text)
        scalar = classifier_of(model, copy.deepcopy(model.base_model))
        if text.pad_id in text.stop_ids:
            _give_pad_token(scalar, text)
        scalar.config.pad_token_id = text.pad_id
        built = ScalarModel(scalar)
        width = built.head.in_features
        with torch.no_grad():
            drawn_D = torch.randn(width, generator=torch.Generator().manual_seed(seed)) / math.sqrt(width + 1)
            built.head.weight.copy_(drawn_D)
        return built, text

    @staticmethod
    def load_shared(model: PreTrainedModel, adapter: str | Path, tokenizer: str | Path) -> tuple[ScalarModel, Text]:
        """Return a scalar model on the very weights of a language model, frozen by it, with the adapter of a folder.

        Adapter, head and bias are its own, and trained until they are frozen. `tokenizer` is the folder of its `save`.
        Padding must be under no mask: whatever pad token its Text has, embeddings are the language model's.
        """
        shared = ScalarModel(classifier_of(model, sharing_weights(model.requires_grad_(False).base_model)))
        shared.head.float()
        bias = load_adapter(shared.model, adapter)["score_bias"]
        shared._train_head(bias)
        config = AutoConfig.from_pretrained(str(tokenizer))
        return shared, Text(AutoTokenizer.from_pretrained(str(tokenizer)), stop_ids_of(config))

    def sharing(self, lora: Lora, *, seed: int) -> ScalarModel:
        """Return the same scalar model on the same weights, frozen by it, with an adapter and a head of its own.

        The adapter is a copy of this one's; where this one is whole, a new one of the shape of `lora`.
        """
        if adapter_layers(self.model):
            return sharing_weights(self)
        shared = sharing_weights(self.requires_grad_(False))
        shared.add_adapter(lora, seed=seed)
        return shared

    def add_adapter(self, lora: Lora, *, seed: int) -> None:
        """Freeze the transformer and put an adapter on it; adapter, head (float32) and bias are trained."""
        add_adapter(self.model, lora, seed=seed)
        self._train_head(self.bias.item())

    def _train_head(self, bias: float) -> None:
        """Give the model a head of its own, float32 and trained."""
        self.head.weight = nn.Parameter(self.head.weight.detach().float().clone())
        self.bias = nn.Parameter(torch.full_like(self.bias, bias))

    def save_adapter(self, path: str | Path, *, base: str, about: str, more: Mapping[str, Any]) -> None:
        """Write adapter and head as peft does, the bias beside them in `instructloop.json`, with what is in `more`."""
        more = {**more, "score_bias": self.bias.item()}
        save_adapter(self.model, path, base=base, about=about, more=more)

    @staticmethod
    def load(path: str | Path, dtype: torch.dtype = torch.float32) -> tuple[ScalarModel, Text]:
        """Return a scalar model in eval mode and its Text from a folder of `save`, or any one-label classifier."""
        try:
            with quiet():  # `score.bias` of an RMSNorm model is for other readers
                model, report = AutoModelForSequenceClassification.from_pretrained(
                    str(path), dtype=dtype, output_loading_info=True, trust_remote_code=False
                )
            tokenizer = AutoTokenizer.from_pretrained(str(path))
        except UNREADABLE as error:
            raise ValueError(f"{path} is not a reward model that transformers can read: {why(error)}") from error
        if report["missing_keys"]:
            raise ValueError(f"{path} lacks weights of a reward model: {sorted(report['missing_keys'])[:3]}")
        text = Text(tokenizer, stop_ids_of(model.config))
        return ScalarModel(model.eval(), getattr(model.config, "score_bias", 0.0)), text

    def save(self, path: str | Path, text: Text, *, about: str = "", tags: Sequence[str] = ()) -> None:
        """Write a plain sequence-classification folder whose scores in plain transformers are these (see the class)."""
        self.model.config.pad_token_id = text.pad_id
        # A classifier has no generation config, and what closes a completion is one of the stop ids.
        self.model.config.eos_token_id = list(text.stop_ids)
        bias = self.bias.item()
        with as_masters(self.model):
            norm = _final_norm_bias(self.model) if bias else None
        with naming(Path(path)):
            score_bias = _score_bias(self.model.config, 0.0 if norm is not None else bias)
            with quiet(), score_bias, as_masters(self.model), merged(self.model, torch.float32):
                self.model.save_pretrained(str(path), state_dict=self._state(norm, bias))
            text.tokenizer.save_pretrained(str(path))
            write_card(Path(path), task="text-classification", about=about, tags=["reward-model", *tags])

    def _state(self, norm: str | None, bias: float) -> dict[str, Tensor]:
        """Return the weights with the head's bias folded into the final norm's of this name, or beside."""
        state = dict(self.model.state_dict())
        if norm is not None:
            weight_D = self.head.weight.detach().double()[0]
            state[norm] = (state[norm].double() + bias * weight_D / weight_D.square().sum()).to(state[norm].dtype)
        else:
            state["score.bias"] = torch.tensor([bias], dtype=torch.float32)
        return state


def _give_pad_token(model: PreTrainedModel, text: Text) -> None:
    """Add a pad token to `text` and, where the model has no spare row for it, one embedding of zeros."""
    spellings = ("<|pad|>", *(f"<|pad_{i}|>" for i in range(len(text.stop_ids))))  # one at least is no stop token
    pad = next(one for one in spellings if text.tokenizer.get_vocab().get(one) not in text.stop_ids)
    text.tokenizer.add_special_tokens({"pad_token": pad})
    text.pad_id = text.tokenizer.pad_token_id
    if text.pad_id >= embeddings(model).num_embeddings:
        with torch.random.fork_rng(devices=[]):
            model.resize_token_embeddings(text.pad_id + 1, mean_resizing=False)
        with torch.no_grad():
            embeddings(model).weight[text.pad_id] = 0


def _final_norm_bias(model: PreTrainedModel) -> str | None:
    """Return the state-dict name of the bias that is added to what the head reads; None where the final norm has none.

    Found by running one token and seeing whose output is the last hidden state, so no architecture is named here.
    """
    outputs: dict[str, Tensor] = {}
    norms = {
        f"{name}.bias": m for name, m in model.named_modules() if isinstance(m, nn.LayerNorm) and m.bias is not None
    }
    handles = [
        norm.register_forward_hook(partial(_record, outputs, name))
        for name, norm in norms.items()
        if norm.bias.dtype == torch.float32  # in bfloat16 the bias would be rounded
    ]
    try:
        with torch.no_grad():
            token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
            last = model.base_model(input_ids=token, use_cache=False).last_hidden_state
    finally:
        for handle in handles:
            handle.remove()
    return next((name for name, output in outputs.items() if output.data_ptr() == last.data_ptr()), None)


def _record(outputs: dict[str, Tensor], name: str, _: nn.Module, __: object, output: Tensor) -> None:
    outputs[name] = output


@contextlib.contextmanager
def _score_bias(config: PreTrainedConfig, bias: float) -> Iterator[None]:
    """Within, the configuration says `score_bias` where there is one, and does not name it where there is none."""
    before = vars(config).pop("score_bias", None)
    if bias:
        config.score_bias = bias
    try:
        yield
    finally:
        vars(config).pop("score_bias", None)
        if before is not None:
            config.score_bias = before


class Scorer:
    """A reward model that reads text: prompts and completions are tokenised by its own tokenizer, in sorted batches."""

    def __init__(self, model: ScalarModel, text: Text, *, batch_tokens: int = 8192):
        self.model, self.text, self.batch_tokens = model, text, batch_tokens

    @staticmethod
    def load(path: str | Path) -> Scorer:
        """Load a scorer from a reward model's folder."""
        return Scorer(*ScalarModel.load(path))

    def scores(self, pairs: Sequence[tuple[str, str]], *, finished: Sequence[bool] | None = None) -> list[float]:
        """Return the score of each (prompt, completion). Not `finished`: cut off by its budget, it gets no EOS.

        Prompts that would exceed the model's context are truncated at their start.
        """
        closes = [True] * len(pairs) if finished is None else finished
        rows = [self.ids(*pair, close=close) for pair, close in zip(pairs, closes, strict=True)]
        scores = [0.0] * len(rows)
        for index in length_sorted_batches([len(row) for row in rows], max_tokens=self.batch_tokens):
            tokens_BT, attention_BT = self.text.pad_right([rows[i] for i in index])
            device = self.model.bias.device
            with torch.inference_mode():
                score_B = self.model.score(tokens_BT.to(device), attention_BT.to(device))
            for i, score in zip(index, score_B.tolist(), strict=True):
                scores[i] = score
        return scores

    def ids(self, prompt: str, completion: str, *, close: bool = True) -> list[int]:
        """Return the ids that are scored: the same as in training and in rollouts for the same text."""
        completion_ids = self.text.completion_ids(completion, close=close)
        limit = context_length(self.model.config)
        room = None if limit is None else limit - len(completion_ids)
        if room is not None and room < 1:
            raise ValueError(f"a completion of {len(completion_ids)} tokens does not fit a context of {limit}")
        return self.text.prompt_ids(prompt, max_tokens=room) + completion_ids
