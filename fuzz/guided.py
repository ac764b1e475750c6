"""The readers and the graph under libFuzzer, which looks for inputs that reach new code.

pip install -e '.[fuzz]'
python -m fuzz.guided found tests/golden -max_total_time=600 -timeout=10 -rss_limit_mb=2048

Inputs that reach something new go into the first folder, the others are read only; all options are libFuzzer's. An
exception that is not a ConvertError, or an input that takes too long or too much, ends the run and is kept as a file.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path


def judge(data: bytes, file: Path) -> tuple[str, str]:
    """Read `data`, by way of `file`, as a text and as a binary, and build the graph; says what came of each."""
    from senet_convert.converter.graph.build import build
    from senet_convert.errors import ConvertError
    from senet_convert.proto import NetDef, read_caffemodel, read_prototxt

    def outcome(read: Callable[[Path], NetDef]) -> str:
        try:
            net = read(file)
            build(net, net)
        except ConvertError as refused:
            return type(refused).__name__
        return "graph"

    file.write_bytes(data)
    return outcome(read_prototxt), outcome(read_caffemodel)


def main() -> None:
    """Hand over to libFuzzer, with the package's own code instrumented."""
    import atheris

    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "net"
        with atheris.instrument_imports(include=["senet_convert"]):
            judge(b"", file)  # imports what it needs

        def one(data: bytes) -> None:
            judge(data, file)

        atheris.Setup(sys.argv, one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
