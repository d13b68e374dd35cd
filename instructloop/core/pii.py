"""What tells who a person is, found by pattern and checksum: e-mail, phone, IBAN, card, SSN, IP address; no names."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence

import phonenumbers

KINDS: tuple[str, ...] = ("email", "phone", "iban", "credit_card", "ssn", "ip")

# Bounded repeats and a look-behind keep every pattern linear in the length of the text.
_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
# The look-ahead lets candidates overlap: what stands before a number must not hide it.
_IBAN = re.compile(r"(?<!\w)(?=([A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30})(?!\w))")
# First digits of the issuers: Visa 4, Mastercard 51-55 and 22-27, Amex 34 and 37, Discover 60 and 65, Diners and JCB 3.
_CARD = re.compile(r"(?<![\d.,-])(?=((?:4|5[1-5]|2[2-7]|3[04-9]|6[05])(?:[ -]?\d){11,17})(?!\d))")
# Area 000, 666 and 9xx, group 00 and serial 0000 are never given out.
_SSN = re.compile(r"(?<![\d-])(?!000|666|9)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\d-])")
_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:])[0-9A-Fa-f:]{2,39}(?![\w:])")


def find_pii(text: str, *, regions: Sequence[str] = ("US", "GB")) -> list[str]:
    """Return the kinds of `KINDS` that occur in the text, in that order.

    `regions` are the countries whose national phone numbers count; numbers with + and a country code always do. IP
    addresses count when they are public, cards by Luhn's checksum, IBANs by theirs. Names and street addresses are not
    found: that needs a model (docs/decisions/0001-pii-detector.md).
    """
    found = {
        "email": _EMAIL.search(text) is not None,
        "phone": _has_phone(text, regions),
        "iban": any(_is_iban(match.group(1)) for match in _IBAN.finditer(text)),
        "credit_card": any(_is_card(match.group(1)) for match in _CARD.finditer(text)),
        "ssn": _SSN.search(text) is not None,
        "ip": any(_is_public(candidate) for candidate in _addresses(text)),
    }
    return [kind for kind in KINDS if found[kind]]


def contains_pii(text: str, *, regions: Sequence[str] = ("US", "GB")) -> bool:
    """Return whether `find_pii` finds anything."""
    return bool(find_pii(text, regions=regions))


def _has_phone(text: str, regions: Sequence[str]) -> bool:
    if sum(character.isdigit() for character in text) < 7:
        return False
    strict = phonenumbers.Leniency.STRICT_GROUPING
    return any(
        phonenumbers.PhoneNumberMatcher(text, region, leniency=strict).has_next() for region in regions or (None,)
    )


def _is_iban(candidate: str) -> bool:
    """Return whether the candidate begins with 15 to 34 characters, read mod 97 as ISO 7064 does, that leave 1."""
    return any(
        15 <= len(iban) <= 34 and int("".join(str(int(c, 36)) for c in iban[4:] + iban[:4])) % 97 == 1
        for iban in _whole_groups(candidate)
    )


def _is_card(candidate: str) -> bool:
    """Return whether the candidate begins with 13 to 19 digits that satisfy Luhn's checksum (ISO 7812)."""
    for card in _whole_groups(candidate):
        digits = [int(character) for character in card]
        doubled = [2 * digit - 9 * (digit > 4) for digit in digits[-2::-2]]
        if 13 <= len(digits) <= 19 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0:
            return True
    return False


def _whole_groups(candidate: str) -> Iterator[str]:
    """Yield the candidate without its separators, then without its last group, and so on."""
    groups = re.split("[ -]", candidate)
    yield from ("".join(groups[:end]) for end in range(len(groups), 0, -1))


def _addresses(text: str) -> Iterator[str]:
    yield from (match.group() for match in _IPV4.finditer(text))
    yield from (match.group() for match in _IPV6.finditer(text) if match.group().count(":") >= 2)


def _is_public(candidate: str) -> bool:
    try:
        return ipaddress.ip_address(candidate).is_global
    except ValueError:  # not an address at all: 12:30:45, 999.1.1.1
        return False
