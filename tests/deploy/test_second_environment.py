"""Classify and validate in a virtual environment of their own, where what converting needs was never installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VARIABLE = "SENET_CONVERT_SECOND_VENV"
IMPORTS = """
import importlib.util, pkgutil
from importlib import import_module
import senet_convert.deploy
assert importlib.util.find_spec("torch") is None
assert importlib.util.find_spec("safetensors") is None
for module in pkgutil.iter_modules(senet_convert.deploy.__path__):
    import_module(f"senet_convert.deploy.{module.name}")
print(senet_convert.__file__)
"""

pytestmark = pytest.mark.skipif(
    not os.environ.get(VARIABLE), reason=f"{VARIABLE}=1 is not set: installs a second virtual environment"
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its programs. Built from a copy: a build leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("second")
    source = folder / "source"
    shutil.copytree(ROOT / "senet_convert", source / "senet_convert", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    pip = [str(folder / "venv/bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), f"{source}[cpu]"], check=True)
    return folder / "venv" / "bin"


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
        assert "is not installed; install senet-convert[all]" in run(command, *words, code=1).stderr
