"""What gRPC answers to a fault: its code for each status of ours, and for each fault of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc

from ...errors import (
    ABSENT,
    AWAY,
    BAD,
    BUSY,
    FAULT,
    FORBIDDEN,
    LATE,
    MISDIRECTED,
    NO_KEY,
    SLOW,
    TOO_LARGE,
    UNKNOWN,
    RequestError,
    ServeError,
)
from ...models import errors

CODES: Mapping[int, Any] = {
    BAD: grpc.StatusCode.INVALID_ARGUMENT,
    NO_KEY: grpc.StatusCode.UNAUTHENTICATED,
    FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    MISDIRECTED: grpc.StatusCode.PERMISSION_DENIED,
    UNKNOWN: grpc.StatusCode.NOT_FOUND,
    SLOW: grpc.StatusCode.DEADLINE_EXCEEDED,
    TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,  # as gRPC itself has it for a message that is too long
    BUSY: grpc.StatusCode.UNAVAILABLE,  # what clients try again by themselves; Triton has it so
    FAULT: grpc.StatusCode.INTERNAL,
    ABSENT: grpc.StatusCode.UNIMPLEMENTED,
    AWAY: grpc.StatusCode.UNAVAILABLE,
    LATE: grpc.StatusCode.DEADLINE_EXCEEDED,
}
MODEL_CODES: Mapping[type[ServeError], Any] = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ModelNotFound: grpc.StatusCode.NOT_FOUND,
    errors.ModelNotReady: grpc.StatusCode.UNAVAILABLE,
    errors.ModelNotLoaded: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ModelUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.QueueFull: grpc.StatusCode.UNAVAILABLE,  # what clients try again by themselves; Triton has it so
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.RunFailed: grpc.StatusCode.INTERNAL,
    errors.InstancesStuck: grpc.StatusCode.UNAVAILABLE,
}


def code(fault: ServeError) -> Any:
    """The code of the answer that tells of `fault`."""
    if isinstance(fault, RequestError):
        return CODES.get(fault.status, grpc.StatusCode.INTERNAL)
    return MODEL_CODES[type(fault)]
