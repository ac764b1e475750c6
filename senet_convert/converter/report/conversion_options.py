"""What a person said of the network at its conversion, as the model carries it: who has to read the same files again,
as `validate` with an engine beside onnxruntime, need not be told twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...deploy.runtime.session import Session
from ...errors import ConvertError
from ...proto import State
from ..graph.draft import Options
from ..graph.graph import Graph
from ..layers import Layer

KEY = "options"  # in the metadata of the ONNX file, and in the report


@dataclass(frozen=True)
class Recorded:
    """`options` without a person's own layer types, whose names are `layers`; `size` as asked by --size."""

    options: Options = Options()
    layers: tuple[str, ...] = ()
    size: int | None = None

    def with_layers(self, given: Mapping[str, type[Layer]], model: str) -> Options:
        """The options with layer types that are given again. Raises ConvertError for those that are not."""
        lacking = [name for name in self.layers if name not in given]
        if lacking:
            raise ConvertError(
                f"{model}: it was converted with layer types of your own ({', '.join(lacking)}); give the file that "
                "defines them with --layers"
            )
        known = self.options
        return Options(known.state, known.input_shapes, given, known.ignore_fields)


def plain(options: Options, size: int | None, graph: Graph) -> dict[str, Any]:
    """As data for JSON. Of a person's own layer types those that the network has, by name."""
    used = {node.type for node in graph.nodes}
    return {
        "phase": options.state.phase,
        "level": options.state.level,
        "stages": list(options.state.stages),
        "input_shapes": [{"input": name, "shape": list(shape)} for name, shape in options.input_shapes.items()],
        "ignore_fields": list(options.ignore_fields),
        "layers": sorted(used.intersection(options.layers)),
        "size": size,
    }


def read(session: Session) -> Recorded:
    """What the metadata say; the defaults where they say nothing."""
    if KEY not in session.metadata:
        return Recorded()
    data = json.loads(session.metadata[KEY])
    state = State(data["phase"], data["level"], tuple(data["stages"]))
    shapes = {item["input"]: tuple(item["shape"]) for item in data["input_shapes"]}
    options = Options(state, shapes, ignore_fields=tuple(data["ignore_fields"]))
    return Recorded(options, tuple(data["layers"]), data["size"])
