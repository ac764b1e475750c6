"""The JSON of the routes for pictures, for the document that describes the server."""

from __future__ import annotations

from ..openapi.operation import Named, Schema, fields, items

TOP: Schema = {"type": "integer", "minimum": 1, "default": 5}
BYTES: Schema = {"type": "string", "format": "binary", "description": "a picture's bytes"}

_WORD: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number"}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_CHOICE = {"model": _WORD, "version": _WORD}
ASSUMED: Schema = {
    "type": ["array", "null"],
    "items": {"type": "string"},
    "description": "values of the preprocessing that nothing states; null where the model does not say",
}
_SIZE: Schema = {"type": "array", "items": _COUNT, "description": "height and width"}

SEVERAL: Schema = fields({"image": items(BYTES)}, {**_CHOICE, "top": TOP})
ONE: Schema = fields({"image": BYTES}, _CHOICE)

CLASSIFIED = Named(
    "Classified",
    fields(
        {
            **_CHOICE,
            "class_order": {"type": "string", "description": "how the classes are numbered, in words"},
            "assumed": ASSUMED,
            "images": items(
                fields(
                    {
                        "name": _WORD,
                        "top": items(
                            fields({"index": _COUNT, "label": _WORD, "probability": _SHARE}, {"wnid": _WORD}),
                        ),
                    },
                    {"error": {"type": "string", "description": "why this picture has no classes"}},
                )
            ),
            "milliseconds": fields({"prepare": _NUMBER, "infer": _NUMBER, "total": _NUMBER}),
        }
    ),
)

GATES = Named(
    "Gates",
    fields(
        {
            **_CHOICE,
            "closed_below": {"type": "number", "description": "a gate below this counts as closed"},
            "stages": items(
                fields(
                    {
                        "name": _WORD,
                        "size": {"description": "height and width of the maps, or null", "type": ["array", "null"]},
                        "blocks": items(
                            fields(
                                {
                                    "name": _WORD,
                                    "channels": _COUNT,
                                    "gates": items(_NUMBER),
                                    "mean": _NUMBER,
                                    "min": _NUMBER,
                                    "max": _NUMBER,
                                    "closed": {**_SHARE, "description": "share of gates that are closed"},
                                }
                            )
                        ),
                    }
                )
            ),
            "milliseconds": fields({"total": _NUMBER}),
        }
    ),
)

MODELS = Named(
    "PictureModels",
    fields(
        {
            "ready": {"type": "boolean", "description": "false while models are loaded, and when the server stops"},
            "default": {"description": "the model for requests that name none", "type": ["string", "null"]},
            "models": items(
                fields(
                    {"name": _WORD, "versions": items(_WORD), "classifies": {"type": "boolean"}},
                    {
                        "classes": _COUNT,
                        "class_order": _WORD,
                        "preprocessing": _WORD,
                        "assumed": ASSUMED,
                        "size": _SIZE,
                        "gates": {"type": "boolean", "description": "can /v1/gates be asked?"},
                        "reason": {"type": "string", "description": "why it takes no pictures"},
                    },
                )
            ),
        }
    ),
)
