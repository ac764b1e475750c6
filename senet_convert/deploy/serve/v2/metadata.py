"""What the protocol tells of a server and its models, as plain dictionaries in Triton's JSON shape.

HTTP answers with them as they are; for gRPC they are the arguments of messages that have the same fields.
"""

from __future__ import annotations

from typing import Any

from ....version import __version__
from ...runtime import providers
from ..models.errors import ModelError
from ..models.repository import READY, Repository, Running
from ..models.served import Served, Spec
from ..models.stats import STAGES, Duration
from ..state import ServerState
from . import encoded_pictures

Json = dict[str, Any]

NAME = "senet-convert"
PLATFORM = "onnxruntime_onnx"  # Triton's word for a model of this kind, which its clients know
BACKEND = "onnxruntime"
EXTENSIONS = ("classification", "model_repository", "model_configuration", "binary_tensor_data", "statistics")

_MICRO = 1_000_000
_TYPES = {"BYTES": "STRING"}  # a configuration's names of types are the protocol's, but for this one


def server() -> Json:
    """Name, version and the extensions of the protocol that are spoken."""
    return {"name": NAME, "version": __version__, "extensions": list(EXTENSIONS)}


def model_ready(state: ServerState, name: str, version: str = "") -> bool:
    """Would a request for this model be taken? No for a model that nobody knows."""
    if state.draining:
        return False
    try:
        return state.repository.get(name, version).ready
    except ModelError:
        return False


def model(repository: Repository, name: str, version: str = "") -> Json:
    """Inputs and outputs with their whole shapes, -1 where a size is free. Raises RequestError."""
    served = repository.get(name, version).served
    return {
        "name": served.name,
        "versions": [served.version] if version else repository.versions(name),
        "platform": PLATFORM,
        "inputs": [_tensor(spec) for spec in served.inputs],
        "outputs": [_tensor(spec) for spec in served.outputs],
    }


def config(repository: Repository, name: str, version: str = "") -> Json:
    """Triton's model configuration, of what is really done. Raises RequestError.

    `dims` lack the batch's axis where `max_batch_size` is not 0.
    """
    running = repository.get(name, version)
    served, limits = running.served, running.batcher.limits
    found: Json = {
        "name": served.name,
        "platform": PLATFORM,
        "backend": BACKEND,
        "version_policy": {"all": {}},
        "max_batch_size": served.max_batch if served.batched else 0,
        "input": [_config_tensor(spec, served) for spec in served.inputs],
        "output": [_config_tensor(spec, served) for spec in served.outputs],
        "instance_group": [_instances(served)],
        "default_model_filename": served.file.name,
        "model_transaction_policy": {"decoupled": False},
    }
    given = parameters(served)
    if given:
        found["parameters"] = {key: {"string_value": value} for key, value in given.items()}
    if served.batched:
        found["dynamic_batching"] = {
            "preferred_batch_size": [size for size in served.sessions[0].buckets if size <= served.max_batch],
            "max_queue_delay_microseconds": round(limits.max_wait * _MICRO),
            "preserve_ordering": False,
            "default_queue_policy": {
                "timeout_action": "REJECT",
                "default_timeout_microseconds": round(limits.deadline * _MICRO),
                "allow_timeout_override": True,
                "max_queue_size": limits.queue,
            },
        }
    return found


def statistics(repository: Repository, name: str = "", version: str = "") -> Json:
    """Counts and nanoseconds of one version, of all of a model, or of everything that answers. Raises RequestError."""
    if not name:
        chosen = repository.all()
    elif version:
        chosen = [repository.get(name, version)]
    else:
        chosen = [repository.get(name, number) for number in repository.versions(name)]
    return {"model_stats": [_statistics(running) for running in chosen]}


def index(repository: Repository, ready: bool = False) -> list[Json]:
    """Every version that is known, or only those that answer: name, version, state, reason."""
    return [dict(entry) for entry in repository.index() if entry["state"] == READY or not ready]


def parameters(served: Served) -> dict[str, str]:
    """What the protocol has no field for: which input takes encoded pictures; what pictures must have gone through
    before they are an input, and which of that nothing states."""
    found = encoded_pictures.parameters(served)
    if served.classifier is None:
        return found
    origins = served.classifier.origins
    assumed = ",".join(origins.assumed) or "nothing" if origins else "not recorded"
    return {**found, "preprocess": served.classifier.preprocess.to_json(), "preprocess_assumed": assumed}


def _tensor(spec: Spec) -> Json:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _config_tensor(spec: Spec, served: Served) -> Json:
    dims = spec.shape[1:] if served.batched else spec.shape
    datatype = _TYPES.get(spec.datatype, spec.datatype)
    return {"name": spec.name, "data_type": f"TYPE_{datatype}", "dims": list(dims)}


def _instances(served: Served) -> Json:
    session = served.sessions[0]
    found: Json = {"name": served.name, "count": len(served.sessions)}
    if session.provider in providers.GPU:
        return {**found, "kind": "KIND_GPU", "gpus": [session.tuning.device]}
    return {**found, "kind": "KIND_CPU"}


def _statistics(running: Running) -> Json:
    stats, served = running.stats, running.served
    none = Duration()
    stages = {stage: stats.stages[stage] for stage in STAGES}
    durations = {"success": stats.success, "fail": stats.fail, **stages, "cache_hit": none, "cache_miss": none}
    return {
        "name": served.name,
        "version": served.version,
        "last_inference": round(stats.last_inference * 1000),
        "inference_count": stats.inferences,
        "execution_count": stats.executions,
        "inference_stats": {key: _duration(value) for key, value in durations.items()},
        "response_stats": {},
        "batch_stats": [
            {"batch_size": size, **{stage: _duration(value) for stage, value in took.items()}}
            for size, took in sorted(stats.batches.items())
        ],
        "memory_usage": [],
    }


def _duration(duration: Duration) -> Json:
    return {"count": duration.count, "ns": duration.ns}
