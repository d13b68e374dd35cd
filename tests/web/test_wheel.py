"""What is installed serves too: every template and static file is in the wheel, and the app runs from it."""

import fnmatch
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import instructloop

PACKAGE = Path(instructloop.__file__).parent
ROOT = PACKAGE.parent
WALK = """
from pathlib import Path
import sys
from starlette.testclient import TestClient
import instructloop
from instructloop.web.app import create_app
from instructloop.web.pages import ENVIRONMENT, STATIC

assert str(Path(instructloop.__file__).parent.parent) == sys.argv[1], instructloop.__file__
names = ENVIRONMENT.list_templates()
for name in names:
    ENVIRONMENT.get_template(name)
with TestClient(create_app(Path(sys.argv[2]) / "store.sqlite"), base_url="http://127.0.0.1:8800") as browser:
    page = browser.get("/sign-in").text
    files = [path for path in STATIC.rglob("*") if path.is_file()]
    for path in files:
        assert browser.get("/static/" + path.relative_to(STATIC).as_posix()).content == path.read_bytes()
print(len(names), len(files), "Sign in" in page)
"""


def of_the_package() -> list[str]:
    """Return the files of the package that are no code, as paths inside it."""
    files = (path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(path.relative_to(PACKAGE).as_posix() for path in files if path.suffix != ".py")


def test_every_file_that_is_no_code_is_named_as_data_of_the_package():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "instructloop"
    ]
    files = of_the_package()
    assert "web/templates/layout.html" in files
    assert "web/static/app.css" in files
    left_out = [
        name for name in files if not any(fnmatch.fnmatch(name, pattern.removeprefix("**/")) for pattern in patterns)
    ]
    assert left_out == []


@pytest.mark.slow
def test_the_app_runs_from_the_wheel(tmp_path: Path):
    """Built without network from a copy: setuptools is installed where the tests run."""
    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    shutil.copytree(PACKAGE, source / "instructloop", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    installed = str(tmp_path / "installed")
    command = [sys.executable, "-c", WALK, installed, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": installed}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    num_templates, num_files, is_there = done.stdout.split()
    of_web = [name for name in of_the_package() if name.startswith("web/")]
    assert int(num_templates) == sum(name.startswith("web/templates/") for name in of_web)
    assert int(num_files) == sum(name.startswith("web/static/") for name in of_web)
    assert is_there == "True"
