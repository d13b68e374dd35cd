"""`instructloop web`: what it refuses, what it says, and that it really serves."""

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from instructloop.cli import main
from instructloop.store import Store
from instructloop.web.serving import greeting, listen
from instructloop.web.settings import Settings
from instructloop.workspace import Workspace
from tests.web.conftest import PASSWORD_HASH, TestClock


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    Workspace.create(tmp_path / "loop", "microworld")
    return tmp_path / "loop"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str]:
    with pytest.raises(SystemExit) as end:
        main(["web", *arguments])
    return end.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--host", "0.0.0.0"], "passwords would travel unencrypted"),
        (["--host", "0.0.0.0", "--allow-remote"], "url is missing"),
        (["--behind-tls"], "url is missing"),
        (["--behind-tls", "--url", "http://a.example"], "must begin with https://"),
        (["--trust-proxy", "nginx"], "must be an address or a network"),
        (["--port", "70000"], "Invalid value for '--port'"),
    ],
)
def test_unsafe_settings_are_bad_usage(workspace: Path, capsys, arguments: list[str], error: str):
    code, said = refused(capsys, "--dir", str(workspace), *arguments)
    assert code == 2
    assert error in said
    assert said.count("\n") == 1
    assert not (workspace / "store.sqlite").exists()


def test_a_database_that_would_not_be_used_is_refused(workspace: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@localhost/nothing")
    code, said = refused(capsys, "--dir", str(workspace))
    assert code == 2
    assert "DATABASE_URL has no effect" in said
    assert "people: app" in said


def test_a_folder_that_is_no_workspace_is_refused(tmp_path: Path, capsys):
    code, said = refused(capsys, "--dir", str(tmp_path))
    assert code == 1
    assert "is no workspace" in said


def test_a_port_that_is_taken_is_named(workspace: Path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = refused(capsys, "--dir", str(workspace), "--port", str(port))
    assert code == 1
    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in said


def test_the_first_owner_is_invited_until_there_is_one(store: Store, clock: TestClock):
    settings = Settings(port=9000)
    first, second = (greeting(store, settings) for _ in range(2))
    assert first[0] == "labelling app: http://127.0.0.1:9000"
    tokens = [
        re.fullmatch(r"first owner, works once: http://127.0.0.1:9000/invitation/(\S+)", lines[1])
        for lines in (first, second)
    ]
    assert tokens[0]
    assert tokens[1]
    with pytest.raises(ValueError, match="not valid"):
        store.accounts.sign_up(tokens[0][1], "Olga", "o@example.org", PASSWORD_HASH, clock())
    from instructloop.web.clock import utc_now

    store.accounts.sign_up(tokens[1][1], "Olga", "o@example.org", PASSWORD_HASH, utc_now())
    assert greeting(store, settings) == ["labelling app: http://127.0.0.1:9000"]


def test_the_link_has_the_public_address(store: Store):
    lines = greeting(store, Settings(behind_tls=True, url="https://labels.example.org", port=9000))
    assert lines[0] == "labelling app: https://labels.example.org (listening on 127.0.0.1, port 9000)"
    assert lines[1].startswith("--trust-proxy is missing")
    assert lines[2].startswith("first owner, works once: https://labels.example.org/invitation/")
    known = Settings(behind_tls=True, url="https://labels.example.org", trusted_proxies=("127.0.0.1",))
    assert len(greeting(store, known)) == 2


def test_answers_do_not_wait_for_acknowledgements_of_their_heads():
    with listen(Settings(port=0)) as listening, socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_ipv6_loopback_can_be_listened_on():
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        with listen(Settings(host="::1", port=0)) as listening:
            assert listening.getsockname()[0] == "::1"
    except OSError:
        pytest.skip("no IPv6 loopback here")


def test_the_command_serves_without_torch_and_stops_at_ctrl_c(workspace: Path):
    """In a process of its own, on a free port: the link that it prints opens the sign-up page of the owner."""
    code = (
        "import atexit, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in what was started in the background
        "from instructloop.cli import main\n"
        "atexit.register(lambda: print('loaded', sorted({'torch', 'transformers', 'matplotlib'} & set(sys.modules))))\n"
        f"main(['web', '--dir', {str(workspace)!r}, '--port', '0'])"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        where = process.stdout.readline()
        link = process.stdout.readline().split()[-1]
        page = urllib.request.urlopen(link, timeout=20)
        assert page.headers["X-Frame-Options"] == "DENY"
        assert "Server" not in page.headers
        assert "the owner" in page.read().decode()
        assert link.startswith(where.split()[-1] + "/invitation/")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "what people saved is kept" in err
    assert "Traceback" not in err
    assert out.strip() == "loaded []"
