"""Run by its path: reads lines of JSON, does pytest in a fork for each, and answers with lines of JSON.

What takes seconds to import is imported once, before the forks; nothing of the package or its tests is.
"""

import contextlib
import importlib
import importlib.util
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

PRELOADED = (
    "beartype",
    "fastapi.testclient",
    "hypothesis.extra.numpy",
    "jaxtyping",
    "numpy",
    "peft",
    "pydantic",
    "pytest",
    "rich.progress",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "torch",
    "transformers.models.gemma.modeling_gemma",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.gpt_neox.modeling_gpt_neox",
    "transformers.models.llama.modeling_llama",
    "transformers.models.mistral.modeling_mistral",
    "transformers.models.qwen2.modeling_qwen2",
    "transformers.models.qwen3.modeling_qwen3",
    "typer",
)
OWN = ("instructloop", "tests.shapes")
LOOK_SECONDS = 0.02


def run(tree: Path, arguments: list[str], output: Path) -> int:
    """Do pytest in the tree, in this process; return its exit code."""
    os.setsid()
    with output.open("wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.chdir(tree)
    sys.path[0] = str(tree)
    os.environ["PYTHONPATH"] = str(tree)
    for name in OWN:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None or not Path(found.origin).is_relative_to(tree):
            print(f"{name} would be that of {found and found.origin}, not of {tree}")
            return 70
    return int(importlib.import_module("pytest").main(arguments))


def waited(child: int, seconds: float) -> int | None:
    """Return the child's exit code; None: it ran out of time and was killed with its children."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(LOOK_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def main() -> None:
    """Import, then answer until there are no more lines."""
    for name in PRELOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            code = 71
            try:
                code = run(Path(asked["tree"]), asked["arguments"], Path(asked["output"]))
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(json.dumps({"code": waited(child, asked["seconds"])}), flush=True)


if __name__ == "__main__":
    main()
