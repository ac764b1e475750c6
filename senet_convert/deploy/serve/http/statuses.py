"""What HTTP answers to a fault of a model: one table, and no other place that knows."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import AWAY, BAD, BUSY, FAULT, LATE, UNKNOWN, RequestError, ServeError
from ..models import errors

STATUSES: Mapping[type[ServeError], int] = {
    errors.InvalidInput: BAD,
    errors.ModelNotFound: UNKNOWN,
    errors.ModelNotReady: AWAY,
    errors.ModelNotLoaded: BAD,
    errors.ModelUnavailable: AWAY,
    errors.QueueFull: BUSY,
    errors.DeadlineExceeded: LATE,
    errors.RunFailed: FAULT,
    errors.InstancesStuck: AWAY,
}


def status(fault: ServeError) -> int:
    """The status of the answer that tells of `fault`."""
    return fault.status if isinstance(fault, RequestError) else STATUSES[type(fault)]
