"""vLLM in the place of our own sampler: the same call, the same samples; weights are written into it in place."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from instructloop.models.adapters import merged
from instructloop.models.decode import Decoded
from instructloop.models.sampler import Samples, check_rows, samples_of
from instructloop.models.text import Text

MEMORY_SHARE = 0.3
"""Of the device, for the engine's copy of the weights and its keys and values; the networks of PPO have the rest."""
LARGEST_SEED = 2**63  # of the generators it draws with


class VllmSampler:
    """One engine in this process, on this process' device, for a policy that is being trained.

    Called as `sample` is. Log-probabilities are the engine's own, at the temperature; how far they are from the
    learner's is what the first minibatch of a rollout measures and refuses (train/on_policy.py). A row's
    stream is vLLM's and not ours: the same seed gives another completion here.
    """

    def __init__(self, folder: str | Path, *, dtype: str, max_tokens: int, memory_share: float = MEMORY_SHARE):
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # weights can be handed over only within one process
        try:
            self._vllm: Any = importlib.import_module("vllm")
        except ImportError as error:
            raise ValueError(f"engine vllm needs vLLM ({error}): pip install 'instructloop[vllm]'") from error
        self._max_tokens = max_tokens
        self._engine = self._vllm.LLM(
            model=str(folder),
            dtype=dtype,
            max_model_len=max_tokens,
            gpu_memory_utilization=memory_share,
            logprobs_mode="processed_logprobs",  # after the temperature, as they are drawn
            trust_remote_code=False,
        )

    def __call__(
        self,
        model: PreTrainedModel,
        text: Text,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        temperature: float,
        seeds: Sequence[int],
        stop_ids: Sequence[int] | None = None,
        on_rows: Callable[[int], None] | None = None,
    ) -> Samples:
        """Return one completion per prompt (ids), drawn from `model` as it is now, row b with `seeds[b]`."""
        if temperature <= 0:
            raise ValueError(f"temperature {temperature} must be above 0: nothing is learned from the likeliest alone")
        check_rows(prompts, seeds, max_new_tokens, limit=self._max_tokens)
        self._take_weights(model)
        stops = text.stop_ids if stop_ids is None else tuple(stop_ids)
        settings = [
            self._vllm.SamplingParams(
                max_tokens=max_new_tokens,
                temperature=temperature,
                seed=seed % LARGEST_SEED,
                stop_token_ids=list(stops),
                ignore_eos=True,  # the text's stop ids decide, EOS among them or not
                logprobs=0,  # of the drawn token only
                detokenize=False,
            )
            for seed in seeds
        ]
        given = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        found = self._engine.generate(given, settings, use_tqdm=False)
        if on_rows is not None:
            on_rows(len(found))
        return samples_of(text, prompts, [_decoded(row, one, stops) for row, one in enumerate(found)], model.device)

    def _take_weights(self, model: PreTrainedModel) -> None:
        """Write the policy's weights over the engine's, an adapter's added, and forget what the old ones computed."""
        with merged(model):
            weights = [(name, parameter.detach()) for name, parameter in model.named_parameters()]
            self._engine.apply_model(lambda network: network.load_weights(iter(weights)))
        self._engine.reset_prefix_cache()


def _decoded(row: int, found: Any, stops: Sequence[int]) -> Decoded:
    [one] = found.outputs
    tokens = list(one.token_ids)
    logprobs = [at[token].logprob for token, at in zip(tokens, one.logprobs, strict=True)]
    return Decoded(row, [], tokens, logprobs, is_finished=tokens[-1] in stops)
