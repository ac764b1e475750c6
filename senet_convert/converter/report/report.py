"""The report: what was converted, what the check found, what was dropped and why.

docs/report.md documents every key.
"""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Mapping, Sequence
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from ...deploy.images.origins import KEY
from ...deploy.labels.classes import Classes
from ...version import __version__
from ..check.compare import Check
from ..check.tolerance import FACTOR, FLOOR, REFERENCE, REFERENCE_FLOOR, BlobCheck
from ..check.written_weights import Landed
from ..export.onnx import OnnxModel
from ..graph.graph import Graph, Node
from ..metadata.preprocessing import Resolved
from . import page
from .released import Release, Source

REPORT_VERSION = 1
PASSED, FAILED, UNCHECKED = "passed", "failed", "unchecked"


def metadata(sources: Sequence[Source], loaded: Any, resolved: Resolved | None, classes: Classes) -> dict[str, str]:
    """What the ONNX file carries for serving and for audits: strings, JSON where there is structure."""
    found = {
        "senet_convert.version": __version__,
        "sources": json.dumps([{"role": s.role, "name": s.name, **s.digests} for s in sources]),
        "architecture": loaded.match.summary if loaded.match else "",
        **classes.metadata(),
    }
    if resolved is not None:
        found["preprocess"] = resolved.preprocess.to_json()
        found[KEY] = resolved.origins.to_json()
    return found


def make(
    sources: Sequence[Source],
    loaded: Any,
    resolved: Resolved | None,
    classes: Classes,
    model: OnnxModel,
    check: Check | None,
    weights: Sequence[Landed],
    warnings: Sequence[str],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """The report as plain data, ready for JSON. `options` are what a person said of the network."""
    graph: Graph = loaded.graph
    release = next((source.release for source in sources if source.release), None)
    return {
        "report_version": REPORT_VERSION,
        "tool": {"name": "senet-convert", "version": __version__},
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "verdict": _verdict(check, weights),
        "faults": [*(check.faults if check else ()), *(fault for item in weights for fault in item.faults)],
        "warnings": list(warnings),
        "options": dict(options),
        "sources": [_source(source) for source in sources],
        "release": _release(release),
        "network": {
            **describe(graph),
            "family": loaded.match.family if loaded.match else None,
            "architecture": loaded.match.summary if loaded.match else "a graph of no known SE family",
        },
        "preprocess": json.loads(resolved.preprocess.to_json()) if resolved else None,
        "preprocess_origins": resolved.origins.to_dict() if resolved else None,
        "classes": {"order": classes.order, "labels": list(classes.labels), "wnids": list(classes.wnids)},
        "onnx": {
            "opset": model.definition.opset_import[0].version,
            "ir_version": model.definition.ir_version,
            "inputs": [_value(item) for item in model.definition.graph.input],
            "outputs": [_value(item) for item in model.definition.graph.output],
        },
        "weights": _weights(graph, weights),
        "check": _check(check),
        "layers": layers(graph, check),
        "dropped": [{"name": item.name, "type": item.type, "reason": item.reason} for item in graph.dropped],
        "environment": _environment(),
    }


def write_page(path: Path, report: Mapping[str, Any]) -> None:
    """report.html: the same data for a person, in one file that needs nothing else."""
    path.write_text(page.render(report), encoding="utf-8", errors="backslashreplace")


def describe(graph: Graph) -> dict[str, Any]:
    """Name, inputs, outputs and counts of a network."""
    counts = parameters(graph)
    multiplied = sum(macs(graph, node) for node in graph.nodes)
    per_image = multiplied / _batch(graph)
    return {
        "name": graph.name,
        "inputs": {name: list(graph.shapes[name]) for name in graph.inputs},
        "outputs": {name: list(graph.shapes[graph.blobs[name]]) for name in graph.outputs},
        "layers": len(graph.nodes),
        "learnable_parameters": sum(learned for learned, _ in counts.values()),
        "batchnorm_statistics": sum(fixed for _, fixed in counts.values()),
        "macs_per_image": round(per_image),
        "gflops_2xmac_per_image": round(2 * per_image / 1e9, 4),
    }


def _batch(graph: Graph) -> int:
    first = graph.inputs[0]
    return graph.shapes[first][0] if graph.shapes[first] and graph.batched[first][0] is None else 1


def parameters(graph: Graph) -> dict[str, tuple[int, int]]:
    """For each layer with weights: how many values are learned by a solver, and how many are statistics.

    Known from the definition, so it needs no caffemodel. Weights shared by name count once.
    """
    seen: set[str] = set()
    found = {}
    for want in graph.wanted:
        learned = fixed = 0
        for i, shape in enumerate(want.shapes):
            shared = want.specs[i].name if i < len(want.specs) else ""
            if shared in seen:
                continue
            if shared:
                seen.add(shared)
            if want.layer.is_learned(i, len(want.shapes)):
                learned += prod(shape)
            else:
                fixed += prod(shape)
        found[want.name] = (learned, fixed)
    return found


def macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of one layer at the declared batch size."""
    return node.layer.macs([graph.shapes[v] for v in node.inputs], [graph.shapes[v] for v in node.outputs])


def _verdict(check: Check | None, weights: Sequence[Landed]) -> str:
    if check is None:
        return UNCHECKED
    return PASSED if check.passed and not any(item.faults for item in weights) else FAILED


def _source(source: Source) -> dict[str, Any]:
    return {"role": source.role, "name": source.name, "bytes": source.size, **source.digests}


def _release(release: Release | None) -> dict[str, Any] | None:
    if release is None:
        return None
    return {
        "name": release.name,
        "published_top1_error": release.top1_error,
        "published_top5_error": release.top5_error,
        "published_gflops_2xmac": release.gflops,
        "published_learnable_parameters": release.learnable_parameters,
    }


def _value(item: onnx.ValueInfoProto) -> dict[str, Any]:
    dims = item.type.tensor_type.shape.dim
    return {"name": item.name, "shape": [d.dim_param or d.dim_value or None for d in dims]}


def _weights(graph: Graph, weights: Sequence[Landed]) -> dict[str, Any]:
    return {
        "blobs": graph.accounts.blobs,
        "values": graph.accounts.values,
        "unused_layers": list(graph.accounts.unused),
        "files": [
            {"file": item.file, "arrays": item.arrays, "values": item.values, "bit_exact": not item.faults}
            for item in weights
        ],
    }


def _check(check: Check | None) -> dict[str, Any] | None:
    if check is None:
        return None
    return {
        "inputs": check.inputs,
        "truth": "generic runner, float64",
        "engines": list(check.engines),
        "budget": {
            "factor": FACTOR,
            "floor": FLOOR,
            "reference_floor": REFERENCE_FLOOR,
            "of": "the generic runner's own float32 error",
        },
        "blobs": len(check.blobs),
        "worst": {engine: _worst(check.worst(engine), engine) for engine in check.engines},
        "decided_otherwise": list(check.ties),
        "top5": dict(check.top5),
        "first_divergence": check.first_divergence,
    }


def _worst(blob: BlobCheck | None, engine: str) -> dict[str, Any] | None:
    if blob is None:
        return None
    error, budget = blob.errors[engine], blob.budget_of(engine)
    return {"blob": blob.blob, "error": _number(error), "budget": _number(budget), "of_budget": _number(error / budget)}


def _number(value: float) -> float | None:
    """JSON has no infinity: null stands for it."""
    return float(f"{value:.4g}") if isfinite(value) else None


def layers(graph: Graph, check: Check | None = None) -> list[dict[str, Any]]:
    """The table of layers, in the order in which they run."""
    counts = parameters(graph)
    checked = {graph.blobs[blob.blob]: blob for blob in check.blobs} if check else None
    return [_layer(graph, node, counts, checked) for node in graph.nodes]


def _layer(
    graph: Graph, node: Node, counts: Mapping[str, tuple[int, int]], checked: Mapping[str, BlobCheck] | None
) -> dict[str, Any]:
    """One row; errors stand with the layer that leaves a blob as it is at the end."""
    learned, fixed = counts.get(node.name, (0, 0)) if node.layer.weight_names else (0, 0)
    row: dict[str, Any] = {
        "name": node.name,
        "type": node.type,
        "tops": list(node.outputs),
        "shapes": [list(graph.shapes[value]) for value in node.outputs],
        "learnable_parameters": learned,
        "statistics": fixed,
        "macs": macs(graph, node),
    }
    if checked is not None:
        row["errors"] = [_blob(checked[value]) for value in node.outputs if value in checked]
    return row


def _blob(blob: BlobCheck) -> dict[str, Any]:
    return {
        "blob": blob.blob,
        "largest_value": _number(blob.scale),
        "budget": _number(blob.budget),
        "reference_budget": _number(blob.reference_budget) if REFERENCE in blob.errors else None,
        "engines": {engine: _number(error) for engine, error in blob.errors.items()},
        "local": {
            engine: {"error": _number(local.error), "budget": _number(local.budget)}
            for engine, local in blob.local.items()
        },
        "over_budget": blob.over(),
        "nonfinite_values": blob.nonfinite,
    }


def _environment() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
