"""API keys: kept as digests, compared in constant time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from hmac import compare_digest

from ....errors import ConvertError
from ..settings.settings import Settings

SHORTEST = 16  # characters; what is shorter can be guessed
_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")


class Keys:
    """The keys that open the server; false where it is open to everyone."""

    def __init__(self, words: Iterable[str]) -> None:
        """`words` are keys, or 'sha256:HEX' of them. Raises ValueError for one that is too short."""
        self._digests = tuple(sorted({_digest(word) for word in words}))

    @classmethod
    def of(cls, settings: Settings) -> Keys:
        """Those of the file and of the environment. Raises ConvertError: the file cannot be read or has none."""
        file = settings.api_keys
        try:
            lines = file.read_text(encoding="utf-8").splitlines() if file else []
        except (OSError, UnicodeDecodeError) as fault:
            raise ConvertError(f"{file}: the API keys cannot be read: {fault}") from fault
        words = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if file and not words:
            raise ConvertError(f"{file}: holds no API key; one stands in a line")
        try:
            return cls([*words, *settings.api_key])
        except ValueError as fault:
            raise ConvertError(f"{file if file else 'the environment'}: {fault}") from fault

    def __bool__(self) -> bool:
        return bool(self._digests)

    def find(self, key: str) -> str | None:
        """A short name for a key that opens, None for one that does not. Every digest is looked at."""
        given = sha256(key.encode("utf-8", "replace")).digest()
        found = [compare_digest(given, known) for known in self._digests]
        return f"key-{given.hex()[:8]}" if any(found) else None


def presented(headers: Mapping[str, str]) -> str | None:
    """The key that a request carries: `Authorization: Bearer KEY`, or `X-API-Key: KEY`. Names are in lower case."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return headers.get("x-api-key")


def _digest(word: str) -> bytes:
    match = _DIGEST.fullmatch(word)
    if match:
        return bytes.fromhex(match[1])
    if len(word) < SHORTEST:
        raise ValueError(f"an API key of {len(word)} characters is too short; take {SHORTEST} or more at random")
    return sha256(word.encode()).digest()
