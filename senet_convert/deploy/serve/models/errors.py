"""Why a request to a model has no result. Protocols tell it in their own words, see their statuses.py."""

from __future__ import annotations

from ..errors import ServeError


class ModelError(ServeError):
    """The root of these."""


class InvalidInput(ModelError):
    """The request does not fit the model: a name, a type, a shape, a number of bytes."""


class ModelNotFound(ModelError):
    """No such model, or no such version of it."""


class ModelNotReady(ModelError):
    """The model is being loaded."""


class ModelNotLoaded(ModelError):
    """The model is known and does not answer: it was unloaded, or could not be loaded."""


class ModelUnavailable(ModelError):
    """The model is being unloaded, or the server shuts down."""


class QueueFull(ModelError):
    """As many requests wait as may."""


class DeadlineExceeded(ModelError):
    """No result in time."""


class RunFailed(ModelError):
    """The model cannot be run on this input."""


class InstancesStuck(ModelError):
    """Every instance of the model is busy with a run that does not end."""
