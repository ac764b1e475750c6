"""What a client is told when its request cannot be answered: one class, carried through every protocol."""

from __future__ import annotations

BAD = 400  # the request itself is wrong: a name, a shape, a type, a byte count
NO_KEY = 401  # an API key is wanted, and none or a wrong one was given
FORBIDDEN = 403  # not for anybody, as this server is set up
UNKNOWN = 404  # no such model or version
SLOW = 408  # the request did not arrive in time
TOO_LARGE = 413
WRONG_TYPE = 415  # a body that says it is no picture
MISDIRECTED = 421  # asked under a name that is not this server's
NO_IMAGE = 422  # a well-formed request whose picture cannot be read
BUSY = 429  # the queue is full
FAULT = 500
ABSENT = 501  # a part of the protocol that this server does not have
AWAY = 503  # not ready, loading, or shutting down
LATE = 504  # the deadline has passed


class ServeError(Exception):
    """An answer that is no result: a message in words, and in how many seconds another try makes sense, if it does."""

    def __init__(self, message: str, retry_after: int | None = None) -> None:
        """`retry_after` in seconds."""
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class RequestError(ServeError):
    """Something about the request itself, or the server, as one of the statuses above."""

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        """`retry_after` in seconds."""
        super().__init__(message, retry_after)
        self.status = status
