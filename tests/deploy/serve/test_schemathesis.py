"""What /openapi.json promises is kept for requests that schemathesis makes up: no 5xx, nothing undocumented."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .process import Process

SECONDS = 30
CONFIG = """
[parameters]
"path.model" = "digits-image"
"path.version" = "1"

[[operations]]
include-path = "/v2/repository/models/{model}/unload"
[operations.parameters]
"path.model" = "other"
"""
# It takes a request for good that fits the schema; whether it fits the model as well, no schema can say.
UNFIT = "positive_data_acceptance"


def test_made_up_requests(image_bundle: Path, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIG, encoding="utf-8")
    with Process(f"digits-image={image_bundle}", f"other={bundle}", "--no-access-log") as server:
        words = ["--max-time", SECONDS, "-n", 20, "--seed", 1, "--phases", "examples,coverage,fuzzing"]
        words += ["--exclude-checks", UNFIT, "--continue-on-failure", "--warnings", "off"]
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=180,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        assert "Traceback" not in server.log
        assert server.stop() == 0
    assert "No issues found" in done.stdout
