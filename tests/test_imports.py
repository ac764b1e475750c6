"""The rooms import only what they may; "The house" in CONTRIBUTING.md says which."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "senet_convert"

# Room -> what its modules may import of the package, and which heavy packages they may not.
RULES: dict[str, tuple[set[str], set[str]]] = {
    "errors.py": (set(), {"torch", "onnx", "onnxruntime", "google"}),
    "files.py": ({"errors", "bundle"}, {"torch", "onnx", "onnxruntime", "google"}),
    "proto": ({"errors", "files", "proto"}, {"torch", "onnx", "onnxruntime", "safetensors"}),
    "converter": ({"errors", "files", "proto", "deploy", "bundle", "version", "converter"}, {"click"}),
    "deploy": ({"errors", "files", "deploy", "bundle", "version"}, {"torch", "safetensors", "click", "google"}),
    "bundle.py": ({"errors", "deploy"}, {"torch", "onnx", "onnxruntime", "safetensors"}),
}


def modules(room: str) -> list[Path]:
    place = PACKAGE / room
    found = [place] if place.suffix else sorted(place.rglob("*.py"))
    return [path for path in found if path.name != "caffe_pb2.py"]


def imports(path: Path) -> set[str]:
    """Absolute names of what a module imports; its own package's as 'senet_convert.<room>'."""
    inside = ("senet_convert", *path.relative_to(PACKAGE).parent.parts)
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(inside[: len(inside) - node.level + 1]) if node.level else ""
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {f"{base}.{name}" if base else name for name in names if name}
    return found


@pytest.mark.parametrize("room", RULES)
def test_rooms_keep_their_imports(room: str) -> None:
    rooms, heavy = RULES[room]
    paths = modules(room)
    assert paths
    for path in paths:
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "senet_convert":
                assert parts[1] in rooms, f"{path.relative_to(PACKAGE)} imports {name}"
            else:
                assert parts[0] not in heavy, f"{path.relative_to(PACKAGE)} imports {name}"


def test_the_rule_sees_an_import_that_breaks_it() -> None:
    assert "torch" in imports(PACKAGE / "converter" / "reference.py")
    assert "senet_convert.deploy.runtime.session" in imports(PACKAGE / "converter" / "decisions.py")


@pytest.mark.parametrize("module", ["senet_convert", "senet_convert.cli", "senet_convert.errors"])
def test_light_modules_load_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'onnx', 'numpy', 'rich', 'cv2'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_deploy_works_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import senet_convert.deploy.runtime.session, senet_convert.bundle"
    subprocess.run([sys.executable, "-c", code], check=True)
