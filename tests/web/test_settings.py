"""Settings that would send passwords in the clear are refused, and each refusal says what to do."""

import pytest
from pydantic import ValidationError

from instructloop.web.settings import Settings


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"host": "0.0.0.0"}, "--behind-tls"),
        ({"host": "::"}, "--allow-remote"),
        ({"host": "192.168.1.5"}, "passwords would travel unencrypted"),
        ({"host": "labels.example.org"}, "--behind-tls"),
        ({"host": "0.0.0.0", "allow_remote": True}, "url is missing"),
        ({"behind_tls": True}, "url is missing"),
        ({"behind_tls": True, "url": "http://a.example"}, "must begin with https://"),
        ({"url": "https://a.example"}, "say --behind-tls"),
        ({"url": "a.example"}, "must read like"),
        ({"url": "ftp://a.example"}, "must read like"),
        ({"url": "https://user:pass@a.example", "behind_tls": True}, "must read like"),
        ({"url": "https://a.example/labels", "behind_tls": True}, "must end after the host"),
        ({"trusted_proxies": ("proxy",)}, "must be an address or a network"),
        ({"trusted_proxies": ("*",)}, "must be an address or a network"),
        ({"port": 70000}, "less than or equal to 65535"),
        ({"portt": 1}, "Extra inputs"),
    ],
)
def test_what_is_unsafe_or_unclear_is_refused(values: dict[str, object], error: str):
    with pytest.raises(ValidationError, match=error):
        Settings(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"host": "localhost"},
        {"host": "::1"},
        {"host": "127.0.0.5"},
        {"host": "0.0.0.0", "behind_tls": True, "url": "https://a.example"},
        {"host": "0.0.0.0", "allow_remote": True, "url": "http://a.example:8800"},
        {"host": "127.0.0.1", "behind_tls": True, "url": "https://a.example", "trusted_proxies": ("127.0.0.1",)},
    ],
)
def test_what_is_safe_or_asked_for_in_so_many_words_is_taken(values: dict[str, object]):
    Settings(**values)  # type: ignore[arg-type]


def test_on_loopback_each_of_its_names_is_an_origin():
    settings = Settings(port=9000)
    assert settings.origin == "http://127.0.0.1:9000"
    assert settings.origins == {"http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000"}
    assert settings.hosts == {"127.0.0.1:9000", "localhost:9000", "[::1]:9000"}
    assert Settings(host="::1", port=9000).origin == "http://[::1]:9000"


def test_the_public_address_is_the_only_origin():
    settings = Settings(behind_tls=True, url="https://Labels.Example.org/")
    assert settings.origins == {"https://labels.example.org"}
    assert settings.hosts == {"labels.example.org"}


def test_cookies_are_held_to_the_host_where_there_is_tls():
    assert Settings().cookie("session") == "instructloop-session"
    secure = Settings(behind_tls=True, url="https://a.example")
    assert secure.cookie("session") == "__Host-instructloop-session"
