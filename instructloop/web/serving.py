"""The app on one address: what is said at its start, and the server until it is stopped."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from instructloop.store import Store
from instructloop.web.app import create_app
from instructloop.web.clock import utc_now
from instructloop.web.loop import Loop
from instructloop.web.settings import Settings

GRACE_SECONDS = 10
BACKLOG = 2048


def serve(store: Store, settings: Settings, *, folder: Path, loop: Loop | None, say: Callable[[str], None]) -> None:
    """Serve the app until Ctrl-C or a signal; `say` gets where it is and, before anybody has come, the owner's link.

    What it let the loop do stops with it, where the loop can go on from.
    """
    with listen(settings) as listening:
        settings = settings.model_copy(update={"port": listening.getsockname()[1]})
        app = create_app(store, settings, folder=folder, loop=loop)
        for line in greeting(store, settings):
            say(line)
        config = uvicorn.Config(
            app,
            log_config=None,  # errors go to stderr as Python does it; requests are logged by us, without secrets
            access_log=False,
            proxy_headers=False,  # addresses of proxies are believed where the settings say so, and nowhere else
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        try:
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            if loop is not None and loop.stop():
                say("what the app let the loop do stops too, at the next point from which it can go on")


def greeting(store: Store, settings: Settings) -> list[str]:
    """Return what is printed at the start; a link that was printed before and not used is worth nothing then."""
    lines = [f"labelling app: {settings.origin}"]
    if settings.url is not None:
        lines[0] += f" (listening on {settings.host}, port {settings.port})"
    if settings.behind_tls and not settings.trusted_proxies:
        lines.append(
            "--trust-proxy is missing: wrong passwords of all people count as those of one address, the proxy's"
        )
    token = store.accounts.first_owner_invite(utc_now())
    if token is not None:
        lines.append(f"first owner, works once: {settings.origin}/invitation/{token}")
    return lines


def listen(settings: Settings) -> socket.socket:
    """Return a socket that listens, before anything else is done; OSError naming the address where it cannot.

    Without Nagle's delay, which its connections inherit: an answer goes out as head and body, and asyncio, which would
    switch it off, does not know a socket that it is given for TCP (`proto` is 0). Else each answer is 40 ms late.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        code = error.errno or 0
        what = (
            os.strerror(code) if code in errno.errorcode else str(error)
        )  # names that are not known have codes of their own
        raise OSError(code, f"cannot listen on {settings.host}, port {settings.port}: {what}") from error
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
