"""onnxruntime neither reports to its maker nor leaves an id of the machine behind, unless somebody wishes it to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from pathlib import Path
from senet_convert.deploy.runtime.session import Session
Session(Path(sys.argv[1]), 1)
"""


def test_nothing_is_kept_for_a_report(bundle: Path, tmp_path: Path) -> None:
    clean = {key: value for key, value in os.environ.items() if key not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    subprocess.run(
        [sys.executable, "-c", CODE, str(bundle / "model.onnx")], env={**clean, "HOME": str(tmp_path)}, check=True
    )
    assert not list(tmp_path.iterdir())
