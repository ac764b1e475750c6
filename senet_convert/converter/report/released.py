"""The released SE networks, as published: recognised by size and digest, never by name.

Source of the table: the SENet authors' release page (errors: single 224x224 crop on the ILSVRC2012 validation set) and
the digests of public mirrors.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from threading import Thread

from ...files import require_file

CHUNK = 1 << 20
CLASSES = 1000  # of every release


@dataclass(frozen=True)
class Release:
    """One released network. Errors in %, GFLOPs as published (2 x multiply-accumulates)."""

    name: str
    top1_error: float
    top5_error: float
    learnable_parameters: int
    gflops: float | None
    size: int | None
    digest: str
    download: str


@cache
def releases() -> tuple[Release, ...]:
    """The table, in the order of the release page."""
    text = resources.files(__package__).joinpath("released_models.csv").read_text(encoding="utf-8")
    return tuple(
        Release(
            name=row["name"],
            top1_error=float(row["top1_error"]),
            top5_error=float(row["top5_error"]),
            learnable_parameters=int(row["learnable_parameters"]),
            gflops=float(row["gflops_2xmac_published"]) if row["gflops_2xmac_published"] else None,
            size=int(row["caffemodel_bytes"]) if row["caffemodel_bytes"] else None,
            digest=row["caffemodel_digest"],
            download=row["download"],
        )
        for row in csv.DictReader(text.splitlines())
    )


def alike(parameters: int, classifier: int, classes: int) -> Release | None:
    """The release of the same structure: as many learnable parameters, the classifier's for other classes apart.

    `parameters` are all of a network's, `classifier` those of its last layer.
    """
    features = classifier // classes
    trunk = parameters - classifier
    return next((one for one in releases() if one.learnable_parameters == trunk + CLASSES * features), None)


@dataclass(frozen=True)
class Source:
    """A file that was read: what an auditor needs to find it again."""

    role: str
    name: str
    size: int
    digests: Mapping[str, str]
    release: Release | None = None


def identifying(path: Path, role: str) -> Callable[[], Source]:
    """`identify` in a thread, which leaves the interpreter free for the rest; the call waits for what it gives.

    Nothing else waits for the thread, so that a read that hangs does not keep the process from ending.
    """
    found: Future[Source] = Future()

    def work() -> None:
        try:
            found.set_result(identify(path, role))
        except BaseException as fault:
            found.set_exception(fault)

    Thread(target=work, name=f"identify {role}", daemon=True).start()
    return found.result


def release_of(path: Path) -> Release | None:
    """The release that a file is; it is read only where its size is that of one."""
    if path.stat().st_size not in {release.size for release in releases()}:
        return None
    return identify(path, "caffemodel").release


def identify(path: Path, role: str) -> Source:
    """Size and SHA-256 of a file, and the release that it is, if it is one. Raises ReadError where it is no file."""
    require_file(path)
    size = path.stat().st_size
    candidates = [release for release in releases() if release.size == size]
    kinds = {"sha256"} | {release.digest.partition(":")[0] for release in candidates if release.digest}
    hashes = {kind: hashlib.new(kind) for kind in sorted(kinds)}
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            for digest in hashes.values():
                digest.update(chunk)
    digests = {kind: digest.hexdigest() for kind, digest in hashes.items()}
    known = {f"{kind}:{value}" for kind, value in digests.items()}
    return Source(role, path.name, size, digests, next((r for r in candidates if r.digest in known), None))
