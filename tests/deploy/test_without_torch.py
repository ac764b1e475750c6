"""Deployment works where neither torch nor anything of the converter is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BLOCKED = """
import pkgutil, sys
for name in ("torch", "safetensors"):
    sys.modules[name] = None
from importlib import import_module
import senet_convert.deploy
for module in pkgutil.iter_modules(senet_convert.deploy.__path__):
    import_module(f"senet_convert.deploy.{module.name}")
from senet_convert.cli import main
main(sys.argv[1:])
"""


def run(*args: object) -> str:
    done = subprocess.run([sys.executable, "-c", BLOCKED, *map(str, args)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_classify_and_validate(bundle: Path, digits: Path) -> None:
    answers = json.loads(run("classify", bundle, digits / "images" / "digits_val_00000001.png", "--json"))
    assert answers[0]["top"][0]["label"] == "four"
    found = json.loads(run("validate", bundle, digits / "images", "--labels", digits / "val.txt", "--json"))
    assert (found["images"], found["top1_error"], found["top5_error"]) == (500, 3.6, 0.2)
