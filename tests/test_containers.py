"""The Dockerfiles: what is copied is there, nothing runs as root, no compiler and no torch come along.

Their build steps are done, and their server is started, in deploy/test_second_environment.py.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from .dockerfile import Stage, stages
from .paths import ROOT

FILES = ("Dockerfile", "Dockerfile.cuda")
COMPILERS = ("gcc", "g++", "build-essential", "make", "cmake", "-dev")


@pytest.fixture(params=FILES)
def both(request: pytest.FixtureRequest) -> tuple[Stage, Stage]:
    build, final = stages(ROOT / request.param)
    return build, final


def test_stages(both: tuple[Stage, Stage]) -> None:
    build, final = both
    assert (build.name, final.name) == ("build", "")
    assert final.all("COPY") == ["--from=build /opt/venv /opt/venv"]
    assert not any(word in step for step in final.all("RUN") for word in (*COMPILERS, "pip", "venv"))
    assert "PATH=/opt/venv/bin:$PATH" in final.all("ENV")[0]


def test_the_user_is_a_number_and_not_root(both: tuple[Stage, Stage]) -> None:
    (user,) = both[1].all("USER")  # a number: Kubernetes' runAsNonRoot cannot tell by a name
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)
    steps = [word for word, _ in both[1].steps]
    assert "RUN" not in steps[steps.index("USER") :]


def test_ports_health_and_command(both: tuple[Stage, Stage]) -> None:
    final = both[1]
    entry = final.words("ENTRYPOINT")
    assert entry[:4] == ["senet-convert", "serve", "--host", "0.0.0.0"]
    assert final.all("EXPOSE") == [f"{entry[entry.index('--port') + 1]} {entry[entry.index('--grpc-port') + 1]}"]
    assert final.health[:2] == ["python", "-c"]
    assert "/v2/health/ready" in final.health[2]
    assert final.words("CMD") == ["--repository", "/models"]


def test_what_is_copied_is_there_and_sent_to_the_builder(both: tuple[Stage, Stage]) -> None:
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] == "!"]
    copied = [source for step in both[0].all("COPY") for source in step.split()[:-1]]
    assert sorted(copied) == sorted(sent)
    assert all((ROOT / source).exists() for source in copied)


LOCKS = {"Dockerfile": "serve-cpu.txt", "Dockerfile.cuda": "serve-cuda.txt"}


def pins(lock: str) -> dict[str, tuple[str, int]]:
    """Package -> its version, and how many hashes are taken for it."""
    rows = re.split(r"\n(?=\S)", (ROOT / "locks" / lock).read_text(encoding="utf-8").strip())
    parted = [row.partition("==") for row in rows]
    return {name: (rest.split()[0], rest.count("--hash=sha256:")) for name, _, rest in parted}


@pytest.mark.parametrize(("file", "lock"), LOCKS.items())
def test_packages_come_by_their_hashes_and_bases_by_their_digests(file: str, lock: str) -> None:
    installs = [step for step in stages(ROOT / file)[0].all("RUN") if " pip install " in step]
    outside = [step for step in installs if "--no-index" not in step]
    assert [re.findall(r"--require-hashes -r /source/(\S+)", step) for step in outside] == [[lock], ["build.txt"]]
    assert all(count for _, count in (pins(lock) | pins("build.txt")).values())
    assert re.search(r"^ARG \w+=[\w.-]+@sha256:[0-9a-f]{64}$", (ROOT / file).read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize("lock", [*LOCKS.values(), "build.txt"])
def test_locks_hold_the_versions_that_are_tested(lock: str) -> None:
    tested = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M))
    locked = pins(lock)
    assert {name: version for name, (version, _) in locked.items() if tested.get(name, version) != version} == {}
    assert len(locked) > 10


@pytest.mark.parametrize(("lock", "engine"), [("serve-cpu.txt", "cpu"), ("serve-cuda.txt", "gpu")])
def test_locks_hold_what_serving_needs_and_no_torch(lock: str, engine: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [one for extra in (engine, "serve", "grpc", "otel") for one in extras[extra]] + project["dependencies"]
    names = {re.match(r"[\w.-]+", one)[0].lower() for one in needed if not one.startswith("senet-convert")}  # type: ignore[index]
    assert names - set(pins(lock)) == set()
    assert "torch" not in pins(lock)


def test_cuda_versions_belong_together() -> None:
    text = (ROOT / "Dockerfile.cuda").read_text(encoding="utf-8")
    assert re.search(r"ARG CUDA=13\.\d", text), "onnxruntime-gpu 1.31 is built for CUDA 13"
    assert pins("serve-cuda.txt")["onnxruntime-gpu"][0].startswith("1.31.")


def test_an_image_is_built_from_its_own_folder() -> None:
    assert Path(ROOT / ".dockerignore").read_text(encoding="utf-8").startswith("*\n")
