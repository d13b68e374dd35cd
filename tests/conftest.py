"""Fixtures and settings that every test shares: one torch thread, shapes checked at run time, no network."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from jaxtyping import install_import_hook

# Annotations such as Float[Tensor, "B C"] are checked by beartype in tests only (conventions 13).
install_import_hook(
    ["instructloop.core.batches", "instructloop.core.losses", "instructloop.core.returns", "instructloop.core.masked"],
    "beartype.beartype",
)

import pytest


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small tests are ten times slower with torch's default threads."""
    import torch

    torch.set_num_threads(1)
