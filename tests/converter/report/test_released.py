from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from senet_convert.converter.report import released
from senet_convert.converter.report.released import Release, identify, identifying, releases
from senet_convert.errors import ReadError


def test_the_table_holds_the_seven_releases() -> None:
    table = {release.name: release for release in releases()}
    assert set(table) == {
        "SE-BN-Inception",
        "SE-ResNet-50",
        "SE-ResNet-101",
        "SE-ResNet-152",
        "SE-ResNeXt-50",
        "SE-ResNeXt-101",
        "SENet-154",
    }
    assert table["SE-ResNet-50"].top1_error == 22.37
    assert table["SENet-154"].top5_error == 4.47
    assert table["SE-ResNet-101"].gflops is None


def test_sizes_and_digests_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.caffemodel"
    path.write_bytes(b"x" * 3_000_000)
    source = identify(path, "caffemodel")
    assert (source.role, source.name, source.size) == ("caffemodel", "a.caffemodel", 3_000_000)
    assert source.digests == {"sha256": hashlib.sha256(b"x" * 3_000_000).hexdigest()}
    assert source.release is None


def test_a_thread_gives_what_was_found_and_what_went_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.caffemodel"
    path.write_bytes(b"x")
    assert identifying(path, "caffemodel")() == identify(path, "caffemodel")
    wrong = identifying(tmp_path, "prototxt")
    with pytest.raises(ReadError, match="it is a folder"):
        wrong()


@pytest.mark.parametrize("kind", ["sha256", "sha384"])
def test_a_release_is_recognised_by_size_and_digest_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    content = b"weights"
    digest = f"{kind}:{hashlib.new(kind, content).hexdigest()}"
    known: Release = replace(releases()[0], size=len(content), digest=digest)
    monkeypatch.setattr(released, "releases", lambda: (known,))
    path = tmp_path / "renamed"
    path.write_bytes(content)
    assert identify(path, "caffemodel").release == known
    path.write_bytes(b"weighty")
    assert identify(path, "caffemodel").release is None
