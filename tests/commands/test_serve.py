from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from senet_convert.cli import main
from senet_convert.deploy.serve import server
from senet_convert.deploy.serve.settings.settings import TABLE, Settings


def serve(*args: object, **environ: str) -> Result:
    return CliRunner().invoke(main, ["serve", *map(str, args)], env=environ)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What a server was started with, instead of starting it."""
    found: list[Settings] = []

    def run(settings: Settings) -> int:
        found.append(settings)
        return 0

    monkeypatch.setattr(server, "run", run)
    return found


def test_every_setting_has_its_option_in_the_help() -> None:
    text = serve("--help").output
    for row in TABLE:
        hidden = row.secret or row.field == "models"
        assert (f"{row.flag} " in text) is not hidden, row.name
    for heading in ("Models:", "Network:", "Batching:", "Safety:"):
        assert heading in text


def test_options_reach_the_server(bundle: Path, started: list[Settings]) -> None:
    done = serve(f"a={bundle}", bundle, "--max-wait-ms", "5", "--no-gates", "--max-body", "1M", "--port", 0)
    assert done.exit_code == 0, done.output
    [settings] = started
    assert [place.name for place in settings.models] == ["a", "digits"]
    assert (settings.max_wait, settings.gates, settings.max_body, settings.port) == (0.005, False, 2**20, 0)


@pytest.mark.parametrize(("flag", "level"), [("-q", "error"), ("-v", "debug")])
def test_how_much_is_said(bundle: Path, started: list[Settings], flag: str, level: str) -> None:
    assert serve(bundle, flag).exit_code == 0
    assert started[0].log_level == level


def test_environment_and_file(bundle: Path, started: list[Settings], tmp_path: Path) -> None:
    (tmp_path / "serve.toml").write_text(f'models = ["{bundle}"]\nqueue = 4\nport = 1\n')
    assert serve("--config", tmp_path / "serve.toml", SENET_CONVERT_SERVE_PORT="2").exit_code == 0
    assert (started[0].queue, started[0].port) == (4, 2)


def test_what_is_in_force(bundle: Path, started: list[Settings]) -> None:
    done = serve(bundle, "--show-config", "--rate", 3, SENET_CONVERT_SERVE_API_KEY="a-key-of-many-characters")
    assert done.exit_code == 0
    assert started == []
    assert "a-key" not in done.output
    shown: dict[str, Any] = tomllib.loads(done.stdout)
    assert (shown["rate"], shown["models"]) == (3, [f"digits={bundle}"])
    assert "rate = 3  # command line" in done.stdout


def test_wrong_usage() -> None:
    done = serve("--port", "x")
    assert (done.exit_code, "'--port': 'x' is no whole number" in done.output) == (2, True)
    assert serve("--api-key", "a-key-of-many-characters").exit_code == 2


def test_refusals() -> None:
    done = serve()
    assert (done.exit_code, "there is nothing to serve" in done.stderr) == (1, True)
    done = serve("/nowhere")
    assert (done.exit_code, "/nowhere: no model is there" in done.stderr) == (1, True)


def test_help_answers_without_the_heavy_imports() -> None:
    """For every command: what is needed to run is imported when it runs."""
    code = "import sys\nfrom senet_convert.cli import COMMANDS, main\nfor name in COMMANDS:\n"
    code += "    try: main([name, '--help'])\n    except SystemExit: pass\n"
    code += "print(sorted({'torch', 'onnx', 'onnxruntime', 'numpy', 'cv2'} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "--max-batch" in done.stdout
