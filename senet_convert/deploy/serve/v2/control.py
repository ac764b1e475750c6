"""Loading and unloading models on request: the protocol's repository extension, and who may use it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from ....errors import ConvertError, listed
from ..errors import BAD, FORBIDDEN, RequestError
from ..state import ServerState

UNLOAD_DEPENDENTS = "unload_dependents"  # no model of ours has any


async def load(state: ServerState, name: str, parameters: Collection[str] = ()) -> None:
    """Load a model, anew where it is loaded; `parameters` are the names of those that the request has.

    Raises RequestError: not allowed, unknown, or not loadable. What answered before still does.
    """
    _check(state)
    if parameters:
        raise RequestError(
            BAD,
            f"model '{name}': a model is loaded from its files as they are; "
            f"parameters are not supported: {listed(sorted(parameters))}",
        )
    try:
        await asyncio.shield(state.repository.load(name))  # a client that goes away leaves no half-loaded model behind
    except ConvertError as fault:
        raise RequestError(BAD, f"model '{name}' cannot be loaded: {fault}") from fault


async def unload(state: ServerState, name: str, parameters: Collection[str] = ()) -> None:
    """Take a model away; what it was asked before is answered. Raises RequestError: not allowed, unknown."""
    _check(state)
    others = sorted(set(parameters) - {UNLOAD_DEPENDENTS})
    if others:
        raise RequestError(BAD, f"model '{name}': parameters are not supported: {listed(others)}")
    await asyncio.shield(state.repository.unload(name))


def _check(state: ServerState) -> None:
    if state.settings.controllable:
        return
    raise RequestError(
        FORBIDDEN,
        "models cannot be loaded or unloaded from outside: this server is reachable from other machines and has no API "
        "keys, or was started with control off",
    )
