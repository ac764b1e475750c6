"""Good and hostile load, and SIGTERM under it; `python -m bench.soak` is the same for as long as wished."""

from __future__ import annotations

from pathlib import Path

from bench import soak

SECONDS = 40.0
LIVENESS = 1.0  # seconds; 0.1 on a machine that does nothing else, as `python -m bench.soak` asks for


def test_mixed_load(image_bundle: Path, digits: Path, tmp_path: Path) -> None:
    tally = soak.run(image_bundle, digits / "images", SECONDS, 0.02, tmp_path, LIVENESS)
    assert not tally.faults, "\n".join(tally.lines())
    answered = {kind: count for (kind, status), count in tally.outcomes.items() if status in ("200", "StatusCode.OK")}
    assert all(answered[kind] > 100 for kind in ("binary", "json", "classify", "grpc")), tally.outcomes
    assert tally.liveness[2] > 100
    assert tally.outcomes["ready after SIGTERM", "503"] == 1
    assert tally.outcomes["exit code", "0"] == 1
