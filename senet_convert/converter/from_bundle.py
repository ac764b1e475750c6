"""A bundle as a network again, with its own weights or tuned ones, and what it says of pictures and classes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import bundle
from ..deploy.images.origins import Origins
from ..deploy.images.preprocess import Preprocess
from ..deploy.labels.classes import Classes
from ..errors import ConvertError
from .caffe.to_caffe import fill
from .graph.build import build
from .graph.draft import Options
from .metadata.preprocessing import Resolved
from .network import Loaded, realise


@dataclass(frozen=True)
class Bundle:
    """What a bundle's report says, and the files that it was read from.

    `weights` are the bundle's own, or tuned ones; `classes` has no labels where these have another number of classes.
    """

    folder: Path
    report: Mapping[str, Any]
    definition: Path
    weights: Path
    resolved: Resolved | None
    classes: Classes
    loaded: Loaded
    warnings: tuple[str, ...]

    @property
    def tuned(self) -> bool:
        """Are the weights others than those that the bundle was converted with?"""
        return self.weights != self.folder / bundle.WEIGHTS


def open_bundle(
    folder: Path, weights: Path | None = None, options: Options | None = None, definition: Path | None = None
) -> Bundle:
    """Read a bundle, with `weights` (safetensors, or a state_dict by torch.save) in the place of its own.

    Of `options` the layer types count, and the fields to pass over. Raises ConvertError: no bundle, no definition in
    it, or weights that do not fit it, all of them listed.
    """
    report = bundle.read_report(folder)
    definition = definition or folder / bundle.DEFINITION
    if not definition.is_file():
        raise ConvertError(
            f"{folder}: there is no {bundle.DEFINITION} in it, so that the network is not known; convert the original "
            "again, which says why it is left out"
        )
    weights = weights or folder / bundle.WEIGHTS
    ignored = tuple(report.get("options", {}).get("ignore_fields", ()))
    given = options or Options()
    said = Options(layers=given.layers, ignore_fields=(*ignored, *given.ignore_fields))
    filled = fill(definition, weights, said)
    graph = build(filled.net, filled.net, replace(said, input_shapes={}))
    classes, notes = _classes(report, filled.outputs)
    changed = tuple(
        f"layer '{name}' has {now} outputs in {weights.name}, {before} in {folder.name}"
        for name, (before, now) in filled.outputs.items()
    )
    warnings = (*filled.warnings, *changed, *notes)
    return Bundle(
        folder, report, definition, weights, _resolved(report, folder), classes, realise(filled.net, graph), warnings
    )


def _resolved(report: Mapping[str, Any], folder: Path) -> Resolved | None:
    if not report.get("preprocess"):
        return None
    origins = Origins.from_dict(report.get("preprocess_origins") or {"values": [], "offers": []})
    values = {name: replace(one, source=f"{folder.name}: {one.source}") for name, one in origins.values.items()}
    return Resolved(Preprocess.from_json(json.dumps(report["preprocess"])), replace(origins, values=values))


def _classes(report: Mapping[str, Any], outputs: Mapping[str, tuple[int, int]]) -> tuple[Classes, tuple[str, ...]]:
    known = report["classes"]
    classes = Classes(tuple(known["labels"]), tuple(known["wnids"]), known["order"])
    if classes.labels and any(before == len(classes.labels) for before, _ in outputs.values()):
        return Classes(), ("the labels are left out, since the number of classes changed: give others with --labels",)
    return classes, ()
