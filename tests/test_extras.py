"""A package that is not installed: the smallest extra that brings it is named."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from senet_convert import extras
from tests.nets import write
from tests.paths import ROOT


def without(package: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` where the package cannot be imported."""
    hidden = f"import sys\nsys.modules[{package!r}] = None\n{code}"
    return subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, timeout=120, check=False)


def test_every_extra_brings_its_packages() -> None:
    given = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    names = {"grpc": "grpcio", "grpc_health": "grpcio-health-checking", "opentelemetry": "opentelemetry-sdk"}
    for package, extra in extras.EXTRAS.items():
        wanted = names.get(package, package.replace("_", "-"))
        assert any(one.startswith(wanted) for one in given[extra]), (package, extra)


def test_a_package_of_our_own_is_told_too() -> None:
    assert "belongs to senet-convert itself" in extras.lacking("numpy.core")
    assert "belongs to senet-convert itself" in extras.lacking(None)


@pytest.mark.parametrize(
    ("package", "command", "extra"),
    [("torch", "convert", "convert"), ("torch", "inspect", "convert"), ("onnxruntime", "classify", "cpu")],
)
def test_commands_name_the_smallest_extra(package: str, command: str, extra: str, tmp_path: Path, bundle: Path) -> None:
    words = [command, *([str(bundle), str(bundle)] if command == "classify" else [str(write(tmp_path).caffemodel)])]
    if command == "convert":
        words += ["-o", str(tmp_path / "out")]
    if command == "classify":
        words[2] = str(write(tmp_path).prototxt)
    done = without(package, f"from senet_convert.cli import main\nmain({words!r})")
    assert done.returncode == 1
    assert (
        f"the package '{package}' is not installed; this is enough: pip install 'senet-convert[{extra}]'" in done.stderr
    )


def test_load_without_torch_is_an_import_error(tmp_path: Path) -> None:
    code = f"""
import senet_convert
try:
    senet_convert.load({str(write(tmp_path).caffemodel)!r})
except ImportError as fault:
    print(fault, fault.name)
"""
    done = without("torch", code)
    assert "senet_convert.load: the package 'torch' is not installed" in done.stdout
    assert "senet-convert[convert]" in done.stdout


@pytest.mark.parametrize("command", ["convert", "to-caffe"])
def test_what_will_be_refused_is_refused_before_torch_is_imported(command: str, tmp_path: Path, bundle: Path) -> None:
    if command == "convert":
        words = [command, str(write(tmp_path).caffemodel), "-o", str(bundle)]
    else:
        (tmp_path / "net.prototxt").write_text("there")
        words = [command, str(bundle), "-o", str(tmp_path / "net")]
    done = without("torch", f"from senet_convert.cli import main\nmain({words!r})")
    assert done.returncode == 1
    assert "it exists already" in done.stderr
