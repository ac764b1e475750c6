"""Classify, validate and serve in an environment of their own, where what converting needs was never installed.

It is made by the steps of the Dockerfile, and the server is started and probed as the image does.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from bench.running import free_ports

from ..dockerfile import build, stages
from ..paths import ROOT

VARIABLE = "SENET_CONVERT_SECOND_VENV"
IMPORTS = """
import importlib.util, pkgutil
from importlib import import_module
import senet_convert.deploy
assert importlib.util.find_spec("torch") is None
assert importlib.util.find_spec("safetensors") is None
for module in pkgutil.walk_packages(senet_convert.deploy.__path__, "senet_convert.deploy."):
    import_module(module.name)
print(senet_convert.__file__)
"""

pytestmark = pytest.mark.skipif(
    not os.environ.get(VARIABLE), reason=f"{VARIABLE}=1 is not set: installs a second virtual environment"
)


def newer() -> str | None:
    """The newest Python above this one that is installed: by its name, or by pyenv."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in range(14, sys.version_info.minor, -1):
        for found in (shutil.which(f"python3.{minor}"), *sorted(root.glob(f"3.{minor}.*/bin/python"))):
            if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
                return str(found)
    return None


@pytest.fixture(scope="module", params=["this Python", "a newer one"])
def environment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its programs: what the Dockerfile's first stage leaves."""
    python = sys.executable if request.param == "this Python" else newer()
    if python is None:
        pytest.skip(f"no Python newer than {sys.version_info.major}.{sys.version_info.minor} is installed")
    folder = tmp_path_factory.mktemp("second")
    build(stages(ROOT / "Dockerfile")[0], folder, python)
    return folder / "opt" / "venv" / "bin"


def run(*command: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=120, env=clean, cwd="/"
    )
    assert done.returncode == code, done.stderr
    return done


def test_serving_needs_no_torch(environment: Path, bundle: Path, digits: Path, tmp_path: Path) -> None:
    place = run(environment / "python", "-c", IMPORTS).stdout
    assert place.startswith(str(environment.parent))
    command, image = environment / "senet-convert", digits / "images" / "digits_val_00000001.png"
    answers = json.loads(run(command, "classify", bundle, image, "--json").stdout)
    assert answers[0]["top"][0]["label"] == "four"
    on_digits = ("validate", bundle, digits / "images", "--labels", digits / "val.txt")
    found = json.loads(run(command, *on_digits, "--json", "--predictions", tmp_path / "p.csv").stdout)
    assert (found["images"], found["top1_error"], found["top5_error"]) == (500, 3.6, 0.2)
    assert "commonest mistakes" in run(command, *on_digits, "--ten-crop", "--limit", 50).stdout
    caffemodel = digits / "SE-ResNet-Digits.caffemodel"
    for words in ((*on_digits, "--engine", "torch"), (caffemodel, "-o", tmp_path / "out")):
        assert (
            "is not installed; this is enough: pip install 'senet-convert[convert]'"
            in run(command, *words, code=1).stderr
        )


def test_the_image_says_what_is_in_it(environment: Path) -> None:
    listed = json.loads((environment.parent / "sbom.cdx.json").read_text(encoding="utf-8"))
    versions = {part["name"]: part["version"] for part in listed["components"]}
    assert listed["bomFormat"] == "CycloneDX"
    assert {"onnxruntime", "numpy", "senet-convert", "starlette"} <= set(versions)
    assert f"onnxruntime=={versions['onnxruntime']}" in (ROOT / "constraints.txt").read_text(encoding="utf-8")


def test_the_image_serves_and_stops(environment: Path, bundle: Path, digits: Path, tmp_path: Path) -> None:
    """As ENTRYPOINT, CMD and HEALTHCHECK have it."""
    final = stages(ROOT / "Dockerfile")[1]
    shutil.copytree(bundle, tmp_path / "models" / "digits")
    http, grpc = free_ports(2)
    places = {"8000": str(http), "8001": str(grpc), "0.0.0.0": "127.0.0.1", "/models": str(tmp_path / "models")}
    entry = [places.get(word, word) for word in (*final.words("ENTRYPOINT"), *final.words("CMD"))]
    health = [word.replace(":8000/", f":{http}/") for word in final.health]
    clean = {"PATH": f"{environment}:/usr/bin:/bin"}
    server = subprocess.Popen([environment / entry[0], *entry[1:]], env=clean, cwd="/")
    try:
        ends = time.monotonic() + 60
        while subprocess.run(health, env=clean, capture_output=True).returncode and time.monotonic() < ends:
            assert server.poll() is None
            time.sleep(0.1)
        picture = (digits / "images" / "digits_val_00000001.png").read_bytes()
        asked = Request(f"http://127.0.0.1:{http}/v1/classify", picture, {"Content-Type": "image/png"})
        with urlopen(asked, timeout=10) as answer:
            assert json.load(answer)["images"][0]["top"][0]["label"] == "four"
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    finally:
        server.kill()
        server.wait()
