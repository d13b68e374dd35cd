"""Fixtures and settings that every test shares: one torch thread, shapes checked at run time, no network."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from jaxtyping import install_import_hook

import tests.shapes  # noqa: F401 - the hook finds it by name

signal.signal(signal.SIGINT, signal.default_int_handler)  # what was started in the background is born with it ignored

# Annotations such as Float[Tensor, "B C"] are checked in tests only (conventions 13).
CHECKED = ("core.batches", "core.losses", "core.returns", "core.masked", "models.lm", "models.sampler", "models.scalar")
install_import_hook([f"instructloop.{name}" for name in CHECKED], "tests.shapes.checked")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small tests are ten times slower with torch's default threads."""
    import torch

    torch.set_num_threads(1)


LONGEST = ("tests/test_round.py", "tests/web/browser", "tests/stages", "tests/simulated", "tests/store", "tests/cli")


def pytest_collection_modifyitems(items: list[pytest.Item]):
    """Begin with the files that take longest, so that no worker is left alone with one of them at the end."""

    def rank(item: pytest.Item) -> int:
        return next((rank for rank, place in enumerate(LONGEST) if item.nodeid.startswith(place)), len(LONGEST))

    items.sort(key=rank)
