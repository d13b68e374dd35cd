"""How the app listens and which origin it has; refuses what would send passwords in the clear to a network."""

from __future__ import annotations

import ipaddress
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class Settings(BaseModel):
    """Host, port and public origin of the app; `behind_tls`: a proxy in front of it speaks HTTPS with browsers."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    host: str = "127.0.0.1"
    port: int = Field(default=8800, ge=0, le=65535)
    url: str | None = None
    behind_tls: bool = False
    allow_remote: bool = False
    trusted_proxies: tuple[str, ...] = ()
    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)

    @field_validator("url")
    @classmethod
    def _is_an_origin(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ValueError(f"url {url} must read like https://labels.example.org")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(f"url {url} must end after the host: the app has a host of its own, no path on another")
        return f"{parts.scheme}://{parts.netloc.lower()}"

    @field_validator("trusted_proxies")
    @classmethod
    def _are_addresses(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise ValueError(f"trust-proxy {proxy} must be an address or a network such as 10.0.0.0/8") from error
        return proxies

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if not (self.is_loopback or self.behind_tls or self.allow_remote):
            raise ValueError(
                f"host {self.host} can be reached from other machines, and passwords would travel unencrypted: put a "
                "proxy with TLS in front and say --behind-tls --url https://…, or say --allow-remote"
            )
        if self.url is None and (self.behind_tls or not self.is_loopback):
            raise ValueError("url is missing: beyond loopback the app must know its public address, --url https://…")
        if self.behind_tls and not self.origin.startswith("https://"):
            raise ValueError(f"url {self.url} must begin with https:// when TLS is in front")
        if not self.behind_tls and self.origin.startswith("https://"):
            raise ValueError(f"url {self.url} begins with https://: say --behind-tls too, so that cookies are secure")
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the app."""
        return is_loopback(self.host)

    @property
    def origin(self) -> str:
        """Scheme, host and port as browsers see them, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.url or f"http://{host}:{self.port}"

    @property
    def origins(self) -> frozenset[str]:
        """All origins under which a browser may have loaded a page: on loopback every name of it."""
        if self.url is not None:
            return frozenset({self.url})
        return frozenset({self.origin, *(f"http://{name}:{self.port}" for name in LOOPBACK_NAMES)})

    @property
    def hosts(self) -> frozenset[str]:
        """What may stand in a request's Host header: host and port, as in the origins."""
        return frozenset(_host(origin) for origin in self.origins)

    def cookie(self, name: str) -> str:
        """Return a cookie's name; behind TLS with the prefix by which browsers hold it to this host and to HTTPS."""
        return f"__Host-instructloop-{name}" if self.behind_tls else f"instructloop-{name}"


def read_settings(**values: Any) -> Settings:
    """Return settings; ValueError with the first rule that a value breaks, in one sentence."""
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        own = first.get("ctx", {}).get("error")  # a rule of ours says it all
        raise ValueError(str(own) if own else f"{first['loc'][0]}: {first['msg']}") from error


def is_loopback(host: str) -> bool:
    """Return whether a host to listen on is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host(origin: str) -> str:
    return urlsplit(origin).netloc
