"""Hashing passwords holds up nobody: a few at once, the others wait without a thread; strangers take as long."""

import threading
import time

import anyio
from argon2 import PasswordHasher

from instructloop.web.passwords import NUM_HASHES_AT_ONCE, Passwords


class SlowHasher(PasswordHasher):
    """Counts how many hashes are being made at the same time."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.lock, self.num_now, self.num_most, self.num_verified = threading.Lock(), 0, 0, 0

    def hash(self, password, *, salt=None):  # type: ignore[no-untyped-def]
        with self.lock:
            self.num_now += 1
            self.num_most = max(self.num_most, self.num_now)
        time.sleep(0.02)
        with self.lock:
            self.num_now -= 1
        return super().hash(password, salt=salt)

    def verify(self, hash, password):  # type: ignore[no-untyped-def]
        self.num_verified += 1
        return super().verify(hash, password)


def test_only_a_few_hashes_are_made_at_once():
    """64 MiB each: fifty at once would take 3 GiB."""
    hasher = SlowHasher()
    passwords = Passwords(hasher)

    async def crowd() -> None:
        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(passwords.hash, f"password {number}")

    anyio.run(crowd)
    assert hasher.num_most == NUM_HASHES_AT_ONCE == 3


def test_an_account_that_is_not_there_is_hashed_for_too():
    """Else the time of the answer would tell which addresses have an account."""
    hasher = SlowHasher()
    passwords = Passwords(hasher)
    assert anyio.run(passwords.is_right, None, "any password") is False
    assert hasher.num_verified == 1
    assert anyio.run(passwords.is_right, None, "nobody has this password") is False  # the decoy's own


def test_hashes_are_argon2id_of_the_standards_low_memory_profile():
    """RFC 9106, section 4, second recommended option: t=3, p=4, 64 MiB."""
    stored = anyio.run(Passwords().hash, "five blue herons")
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_a_stored_text_that_is_no_hash_lets_nobody_in():
    assert anyio.run(Passwords(SlowHasher()).is_right, "plain text", "plain text") is False
