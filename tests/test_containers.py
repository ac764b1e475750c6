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


def test_extras_bring_no_torch(both: tuple[Stage, Stage]) -> None:
    (extras,) = re.findall(r'"/source\[([\w,]+)\]"', " ".join(both[0].all("RUN")))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    words = " ".join(one for extra in extras.split(",") for one in project["optional-dependencies"][extra])
    assert "torch" not in words
    assert "grpc" in words


def test_cuda_versions_belong_together() -> None:
    text = (ROOT / "Dockerfile.cuda").read_text(encoding="utf-8")
    assert re.search(r"ARG CUDA=13\.\d", text), "onnxruntime-gpu 1.31 is built for CUDA 13"
    assert '"onnxruntime-gpu==1.31.*"' in text
    assert "onnxruntime==1.31." in (ROOT / "constraints.txt").read_text(encoding="utf-8")


def test_an_image_is_built_from_its_own_folder() -> None:
    assert Path(ROOT / ".dockerignore").read_text(encoding="utf-8").startswith("*\n")
