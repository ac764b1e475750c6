"""The JSON of the Open Inference Protocol, for the document that describes the server."""

from __future__ import annotations

from ..models.served import DATATYPES
from ..openapi.operation import Named, Schema, fields, items
from .metadata import Json

_WORD = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_FLAG = {"type": "boolean"}
_DIMS = items({"type": "integer", "minimum": -1})
_DATATYPE = {"type": "string", "enum": [*DATATYPES, "BYTES"]}
_VALUES = {"description": "the values, row-major; a request may nest them as the shape says", "type": "array"}
_DURATION = fields({"count": _COUNT, "ns": _COUNT})


def _parameters(known: Json, text: str) -> Schema:
    return {"type": "object", "description": text, "properties": known}


_INPUT = fields(
    {"name": _WORD, "datatype": _DATATYPE, "shape": items(_COUNT)},
    {
        "data": _VALUES,
        "parameters": _parameters(
            {"binary_data_size": _COUNT}, "'binary_data_size': bytes of this tensor after the JSON, instead of 'data'"
        ),
    },
)
_WANTED = fields(
    {"name": _WORD},
    {
        "parameters": _parameters(
            {"classification": _COUNT, "binary_data": _FLAG},
            "'classification' k: the k best classes, as 'value:index:label'; 'binary_data': bytes after the JSON",
        )
    },
)
_OUTPUT = fields(
    {"name": _WORD, "datatype": _DATATYPE, "shape": items(_COUNT)},
    {"data": _VALUES, "parameters": _parameters({"binary_data_size": _COUNT}, "bytes of this tensor after the JSON")},
)
_TENSOR = fields({"name": _WORD, "datatype": _DATATYPE, "shape": _DIMS})
_CONFIG_TENSOR = fields({"name": _WORD, "data_type": _WORD, "dims": _DIMS})
_COMPUTE = dict.fromkeys(("compute_input", "compute_infer", "compute_output"), _DURATION)

SERVER = Named("Server", fields({"name": _WORD, "version": _WORD, "extensions": items(_WORD)}))
MODELS = Named("Models", fields({"models": items(_WORD)}))
MODEL = Named(
    "Model",
    fields(
        {
            "name": _WORD,
            "versions": items(_WORD),
            "platform": _WORD,
            "inputs": items(_TENSOR),
            "outputs": items(_TENSOR),
        },
        {"parameters": fields({"encoded_pictures": _WORD})},
    ),
)
CONFIG = Named(
    "Config",
    fields(
        {
            "name": _WORD,
            "platform": _WORD,
            "backend": _WORD,
            "max_batch_size": _COUNT,
            "input": items(_CONFIG_TENSOR),
            "output": items(_CONFIG_TENSOR),
            "instance_group": items({"type": "object"}),
        },
        {"dynamic_batching": {"type": "object"}},
    ),
)
STATISTICS = Named(
    "Statistics",
    fields(
        {
            "model_stats": items(
                fields(
                    {
                        "name": _WORD,
                        "version": _WORD,
                        "last_inference": {**_COUNT, "description": "milliseconds since 1970"},
                        "inference_count": {**_COUNT, "description": "items computed"},
                        "execution_count": {**_COUNT, "description": "runs of the model"},
                        "inference_stats": fields(dict.fromkeys(("success", "fail", "queue"), _DURATION) | _COMPUTE),
                        "batch_stats": items(fields({"batch_size": _COUNT, **_COMPUTE})),
                    }
                )
            )
        }
    ),
)
INDEX = Named("Index", items(fields({"name": _WORD, "version": _WORD, "state": _WORD, "reason": _WORD})))
INDEX_REQUEST = Named("IndexRequest", fields({}, {"ready": {**_FLAG, "description": "only versions that answer"}}))
CONTROL_REQUEST = Named("ControlRequest", fields({}, {"parameters": {"type": "object"}}))
ANY_OBJECT = Named("AnyObject", {"type": "object"})
INFER_REQUEST = Named(
    "InferRequest",
    fields(
        {"inputs": items(_INPUT)},
        {
            "id": _WORD,
            "outputs": items(_WANTED),
            "parameters": _parameters(
                {"timeout": _COUNT, "binary_data_output": _FLAG},
                "'timeout' in microseconds; 'binary_data_output': all outputs as bytes after the JSON",
            ),
        },
    ),
)
INFER_ANSWER = Named(
    "InferAnswer", fields({"model_name": _WORD, "model_version": _WORD, "outputs": items(_OUTPUT)}, {"id": _WORD})
)
BYTES = {"type": "string", "format": "binary"}
