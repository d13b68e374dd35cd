"""The peers' virtual environments: python -m benchmarks.peers.environments makes them, beside the checkout's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measuring import ROOT

FOLDER = ROOT / ".peers"
TORCH = "torch==2.13.0"
PEERS: dict[str, Sequence[str]] = {
    "ppo": ("trl==1.12.0", "transformers==5.23.0", "accelerate==1.15.0", "datasets==5.2.0"),
    "training": ("trl==1.16.0", "transformers==5.23.0", "accelerate==1.15.0", "datasets==5.2.0"),
}
"""1.12 is the last release of TRL with a PPO trainer; both run with the transformers that instructloop is pinned to."""


def python(peer: str) -> Path:
    """Return the interpreter of a peer; ValueError where its environment has not been made."""
    found = FOLDER / peer / "bin" / "python"
    if not found.is_file():
        raise ValueError(f"there is no environment for the peer {peer}: `make peers` makes it")
    return found


def make(peer: str) -> None:
    """Make a peer's environment unless it is there whole: torch first, so that nothing brings another."""
    folder, done = FOLDER / peer, FOLDER / peer / ".made"
    wanted = "\n".join([TORCH, *PEERS[peer]])
    if done.is_file() and done.read_text() == wanted:
        return
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, TORCH], check=True)
    subprocess.run([*pip, TORCH, *PEERS[peer]], check=True)
    done.write_text(wanted)


if __name__ == "__main__":
    for name in PEERS:
        make(name)
