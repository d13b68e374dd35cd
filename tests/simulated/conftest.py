"""A workspace with tasks, and the app over its store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from instructloop.workspace import Workspace
from tests.simulated.served import serving, with_tasks


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return with_tasks(tmp_path / "loop", 8)


@pytest.fixture
def url(workspace: Workspace) -> Iterator[str]:
    with serving(workspace) as found:
        yield found
