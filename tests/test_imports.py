"""The rooms import only what they may; "The house" in CONTRIBUTING.md says which."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.paths import ROOT

PACKAGE = ROOT / "senet_convert"
EVERY = frozenset({"errors", "extras", "files", "version"})

# Room or module -> what it may import of the package besides itself and EVERY. A name stands for all that lies in it.
CONVERTER: Mapping[str, frozenset[str]] = {
    "converter.layers": frozenset({"proto"}),
    "converter.graph": frozenset({"proto", "converter.layers"}),
    "converter.runner": frozenset({"converter.graph"}),
    "converter.state_dict": frozenset(),
    "converter.families": frozenset({"converter.layers", "converter.graph", "converter.runner"}),
    "converter.export": frozenset({"proto", "converter.layers", "converter.graph", "deploy.images"}),
    "converter.metadata": frozenset({"proto", "converter.layers", "converter.graph", "deploy.images", "deploy.labels"}),
    "converter.check": frozenset(
        {
            "proto",
            "converter.layers",
            "converter.graph",
            "converter.runner",
            "converter.families",
            "deploy.images",
            "deploy.runtime",
        }
    ),
    "converter.report": frozenset({"proto", "converter.layers", "converter.graph", "converter.check"})
    | frozenset({"converter.metadata"})
    | frozenset({"converter.export", "deploy.images", "deploy.labels", "deploy.runtime"}),
    "converter.network": frozenset(
        {"proto", "converter.layers", "converter.graph", "converter.runner", "converter.families"}
    ),
    "converter.caffe": frozenset({"bundle", "proto", "converter.layers", "converter.graph", "converter.runner"})
    | frozenset({"converter.state_dict", "converter.families", "converter.metadata", "converter.check"}),
    "converter.from_bundle": frozenset({"bundle", "deploy.images", "deploy.labels", "proto", "converter.layers"})
    | frozenset({"converter.graph", "converter.metadata", "converter.network", "converter.caffe"}),
    "converter.pictures": frozenset({"converter.metadata", "deploy.images", "deploy.labels"}),
    "converter.load": frozenset({"proto", "converter"}),
    "converter.inspect": frozenset({"bundle", "proto", "converter", "deploy.images"}),
    "converter.engines": frozenset({"bundle", "proto", "converter", "deploy"}),
    "converter.convert": frozenset({"bundle", "proto", "converter", "deploy"}),
}
DEPLOY: Mapping[str, frozenset[str]] = {
    "deploy.runtime": frozenset(),
    "deploy.labels": frozenset(),
    "deploy.images": frozenset({"deploy.labels"}),
    "deploy.model": frozenset({"bundle", "deploy.runtime", "deploy.labels", "deploy.images"}),
    "deploy.classify": frozenset({"deploy.model", "deploy.runtime", "deploy.labels", "deploy.images"}),
    "deploy.validation": frozenset({"deploy.model", "deploy.runtime", "deploy.labels", "deploy.images"}),
    "deploy.serve": frozenset({"bundle", "deploy.model", "deploy.runtime", "deploy.labels", "deploy.images"}),
}
_SERVE: Mapping[str, str] = {  # room -> rooms of the server that it may import
    "errors": "",
    "context": "",
    "pools": "errors",
    "openapi": "errors",
    "models": "errors context",
    "settings": "models",
    "access": "settings",
    "observe": "context openapi models",
    "pictures": "errors pools models",
    "gates": "errors pools models pictures",
    "state": "errors context pools models settings access observe pictures gates",
    "http": "errors context pools models settings observe state",
    "v2": "errors context pools openapi models settings observe state http",
    "classify": "errors context pools openapi models pictures gates state http",
    "app": "errors openapi observe state http v2 classify",
    "server": "access settings observe state http v2 app",
}
SERVE: Mapping[str, frozenset[str]] = {
    f"deploy.serve.{room}": DEPLOY["deploy.serve"] | {f"deploy.serve.{other}" for other in others.split()}
    for room, others in _SERVE.items()
}
RULES: Mapping[str, frozenset[str]] = {
    "errors": frozenset(),
    "files": frozenset({"bundle"}),
    "bundle": frozenset(),
    "extras": frozenset(),
    "proto": frozenset(),
    **CONVERTER,
    **DEPLOY,
    **SERVE,
}
# Room -> packages that are too heavy for it, or not its business.
HEAVY: Mapping[str, frozenset[str]] = {
    "errors": frozenset({"torch", "onnx", "onnxruntime", "google", "numpy"}),
    "files": frozenset({"torch", "onnx", "onnxruntime", "google"}),
    "bundle": frozenset({"torch", "onnx", "onnxruntime", "safetensors"}),
    "proto": frozenset({"torch", "onnx", "onnxruntime", "safetensors"}),
    "converter": frozenset({"click", "rich"}),
    "deploy": frozenset({"torch", "safetensors", "click", "google"}),
}


def paths(room: str) -> list[Path]:
    place = PACKAGE / Path(*room.split("."))
    everything = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    return [path for path in everything if path.name != "caffe_pb2.py"]


def imports(path: Path) -> set[str]:
    """Absolute names of what a module imports; its own package's without 'senet_convert', with a dot before."""
    inside = ("", *path.relative_to(PACKAGE).parent.parts)
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join((*inside[: len(inside) - node.level + 1], *([node.module] if node.module else [])))
            names |= {_module(f"{base}.{alias.name}") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def _module(name: str) -> str:
    """The module that `name` is, or that holds it."""
    place = PACKAGE / Path(*name.split("."))
    return name if place.is_dir() or place.with_suffix(".py").is_file() else name.rpartition(".")[0]


def within(name: str, rooms: frozenset[str]) -> bool:
    """Whether `name` lies in one of the rooms."""
    return any(f"{name}.".startswith(f"{room}.") for room in rooms)


@pytest.mark.parametrize("room", RULES)
def test_rooms_import_only_what_they_may(room: str) -> None:
    allowed = RULES[room] | EVERY | {room}
    own = [name.removeprefix(".") for path in paths(room) for name in imports(path) if name.startswith(".")]
    assert paths(room)
    assert [name for name in own if name and not within(name, allowed)] == []


@pytest.mark.parametrize("room", HEAVY)
def test_rooms_leave_heavy_packages_alone(room: str) -> None:
    outside = {name.split(".")[0] for path in paths(room) for name in imports(path) if not name.startswith(".")}
    assert outside.isdisjoint(HEAVY[room])


@pytest.mark.parametrize(("house", "rules"), [("converter", CONVERTER), ("deploy", DEPLOY), ("deploy.serve", SERVE)])
def test_every_sub_room_has_a_rule(house: str, rules: Mapping[str, frozenset[str]]) -> None:
    place = PACKAGE / Path(*house.split("."))
    inside = {f"{house}.{path.relative_to(place).parts[0].removesuffix('.py')}" for path in paths(house)}
    assert inside - {f"{house}.__init__"} == set(rules)


@pytest.mark.parametrize("rules", [CONVERTER, DEPLOY, SERVE], ids=["converter", "deploy", "serve"])
def test_the_sub_rooms_stand_in_an_order_without_circles(rules: Mapping[str, frozenset[str]]) -> None:
    above: set[str] = set()
    for room in reversed([*rules]):
        above.add(room)
        assert not {other for other in rules[room] if within(other, frozenset(above))}, room


def test_the_rule_sees_an_import_that_breaks_it() -> None:
    assert "torch" in imports(PACKAGE / "converter" / "runner.py")
    assert ".deploy.runtime.session" in imports(PACKAGE / "converter" / "check" / "ties.py")
    assert ".converter.graph.passes" in imports(PACKAGE / "converter" / "graph" / "build.py")
    assert not within("converter.graphics", frozenset({"converter.graph"}))


@pytest.mark.parametrize("module", ["senet_convert", "senet_convert.cli", "senet_convert.errors"])
def test_light_modules_load_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'onnx', 'numpy', 'rich', 'cv2'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_deploy_works_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import senet_convert.deploy.runtime.session, senet_convert.bundle"
    subprocess.run([sys.executable, "-c", code], check=True)
