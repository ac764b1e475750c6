"""API keys."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from senet_convert.deploy.serve.access.keys import Keys, presented
from senet_convert.deploy.serve.settings.settings import Settings
from senet_convert.errors import ConvertError

KEY = "a-key-of-many-characters"


def test_a_file_of_keys_and_digests(tmp_path: Path) -> None:
    digest = sha256(b"another-key-of-many").hexdigest()
    (tmp_path / "keys").write_text(f"# who: what for\n\n  {KEY}  \nsha256:{digest}\n")
    keys = Keys.of(Settings(api_keys=tmp_path / "keys", api_key=("a-key-of-the-environment",)))
    names = [keys.find(key) for key in (KEY, "another-key-of-many", "a-key-of-the-environment")]
    assert len(set(names)) == 3
    assert all(name and name.startswith("key-") for name in names)
    assert keys.find(f"sha256:{digest}") is None  # who reads the file cannot use it
    assert keys.find("") is None
    assert keys.find("\ud800") is None


def test_none_means_open() -> None:
    assert not Keys.of(Settings())
    assert Keys([KEY])


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "holds no API key"), ("# only this\n", "holds no API key"), ("short\n", "of 5 characters is too short")],
)
def test_files_that_hold_none(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(ConvertError, match=told) as refused:
        Keys.of(Settings(api_keys=tmp_path / "keys"))
    assert "short\n" not in str(refused.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="cannot be read"):
        Keys.of(Settings(api_keys=tmp_path))


def test_where_a_request_carries_it() -> None:
    assert presented({"authorization": f"Bearer {KEY}"}) == KEY
    assert presented({"authorization": f"BEARER  {KEY} "}) == KEY
    assert presented({"x-api-key": KEY}) == KEY
    assert presented({"authorization": f"Basic {KEY}"}) is None
    assert presented({"authorization": "Bearer "}) is None
    assert presented({}) is None
