"""docs/serve.md: its settings are those there are, and its commands do what they say."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from senet_convert.cli import main
from senet_convert.deploy.serve.settings.settings import TABLE
from tests.deploy.serve.process import Process

from ....dockerfile import stages
from ....paths import ROOT

DEPLOY = ROOT / "docs" / "deploy"
TEXT = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
PORTS = ("8000", "8001")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", TEXT, re.MULTILINE | re.DOTALL)


def settings_table() -> str:
    """As it is to stand in the docs."""
    lines, group = [], ""
    for row in TABLE:
        if row.group != group:
            group = row.group
            lines += ["", f"**{group}**", "", "| name | default | |", "|---|---|---|"]
        default = row.show(row.default)
        lines.append(f"| `{row.name}` | {f'`{default}`' if default else ''} | {row.help} |")
    return "\n".join([*lines[1:], ""])


@pytest.fixture(scope="module")
def place(image_bundle: Path, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the docs have it."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(image_bundle, folder / "models" / "digits")
    (folder / "senet_convert").mkdir()
    (folder / "senet_convert" / "digits").symlink_to(digits)
    return folder


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Process]:
    with Process("--repository", place / "models", "--grpc-port", 0) as running:
        yield running


def ported(text: str, server: Process) -> str:
    for documented, real in zip(PORTS, (server.port, server.grpc_port), strict=True):
        text = text.replace(f":{documented}", f":{real}")
    return text


def test_the_settings_are_those_there_are() -> None:
    found = TEXT.split("<!-- settings -->\n")[1].split("<!-- /settings -->")[0]
    assert found == settings_table()


def run(words: list[str], place: Path) -> str:
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_commands(server: Process, place: Path) -> None:
    found = "\n".join(run(["bash", "-euc", ported(text, server)], place) for text in blocks("sh"))
    assert found.startswith("200\n")
    assert '"error"' not in found
    assert found.count('"label":"four"') >= 3
    assert re.search(r"^nv_inference_count\{.*\} [1-9]", found, re.MULTILINE), found


def test_programs(server: Process, place: Path) -> None:
    says = (
        r"8\n\[\[b'0\.995\d+:8:four'",
        r"\(2, 10\)\n$",
        r"\[(\d\.[\de-]+(, |\]\n)){10}$",
        r"\[(\d[ \]]){4}\n$",
    )
    for text, pattern in zip(blocks("python"), says, strict=True):
        found = run([sys.executable, "-W", "ignore", "-c", ported(text, server)], place)
        assert re.match(pattern, found), found


def serve_lines() -> list[list[str]]:
    """The arguments of every `senet-convert serve` that is shown."""
    lines = [line for text in blocks("text") for line in text.replace("\\\n", " ").splitlines()]
    shown = [shlex.split(line)[2:] for line in lines if line.strip().startswith("senet-convert serve")]
    final = stages(ROOT / "Dockerfile")[1]
    entry = final.words("ENTRYPOINT")[2:]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    kubernetes, _ = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8"))
    runtime, _ = yaml.safe_load_all((DEPLOY / "kserve.yaml").read_text(encoding="utf-8"))
    containers = [
        compose["services"]["serve"]["command"],
        container(kubernetes["spec"]["template"])["args"],
        container(runtime)["args"],
    ]
    return [*shown, *([*entry, *args] for args in containers)]


def container(holder: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = holder["spec"]["containers"][0]
    return found


@pytest.mark.parametrize("words", serve_lines(), ids=" ".join)
def test_options_that_are_shown_are_taken(words: list[str], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for name in ("api_keys", "cert.pem", "key.pem"):
        (place / name).write_text("a key of more than 16 characters", encoding="utf-8")
    places = {"/models": "models", "{{.Name}}=/mnt/models": "digits=models/digits"}
    words = [places.get(word, word) for word in words]
    done = CliRunner().invoke(main, ["serve", *words, "--show-config"])
    assert done.exit_code == 0, done.output


def test_the_file_of_settings(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    text = (DEPLOY / "serve.toml").read_text(encoding="utf-8").replace("/srv/models", "models")
    (place / "serve.toml").write_text(text, encoding="utf-8")
    done = CliRunner().invoke(main, ["serve", "--config", "serve.toml", "--show-config"])
    assert done.exit_code == 0, done.output
    assert 'host = "0.0.0.0"' in done.output


def test_kubernetes_gives_more_time_than_the_server_takes() -> None:
    kubernetes, _ = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8"))
    pod = kubernetes["spec"]["template"]["spec"]
    args = pod["containers"][0]["args"]
    linger = float(args[args.index("--linger") + 1])
    grace = next(row.default for row in TABLE if row.field == "grace")
    assert pod["terminationGracePeriodSeconds"] > linger + grace
    assert "lifecycle" not in pod["containers"][0]


def test_variables_are_known() -> None:
    texts = [TEXT, *(path.read_text(encoding="utf-8") for path in DEPLOY.iterdir())]
    named = set(re.findall(r"SENET_CONVERT_SERVE_[A-Z_]+", " ".join(texts)))
    known = {row.variable for row in TABLE} | {"SENET_CONVERT_SERVE_CONFIG", "SENET_CONVERT_SERVE_NAME"}
    assert named <= known
