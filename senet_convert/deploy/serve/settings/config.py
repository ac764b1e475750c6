"""Settings from where they may stand: command line before environment before file before default."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ....errors import ConvertError, Problems
from ....files import require_file
from .settings import TABLE, Setting, Settings

_PREFIX = "SENET_CONVERT_SERVE_"
CONFIG = f"{_PREFIX}CONFIG"  # the environment's word for --config


def read(flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None) -> tuple[Settings, dict[str, str]]:
    """What is in force, and for each field where it comes from.

    `flags` are read values by field; `environ` has words; `file` is TOML, by default the one that `environ` names.
    Raises ConvertError that lists every bad value with its source, and names that are unknown.
    """
    file = file or (Path(environ[CONFIG]) if environ.get(CONFIG) else None)
    problems = Problems("settings")
    found: dict[str, Any] = {}
    origins = {row.field: "default" for row in TABLE}
    for values, origin in (
        (_from_file(file, problems), str(file)),
        (_from_environment(environ, problems), "environment"),
        (flags, "command line"),
    ):
        found |= values
        origins |= dict.fromkeys(values, origin)
    problems.raise_as(ConvertError)
    settings = Settings(**found)
    _check(settings, problems)
    problems.raise_as(ConvertError)
    return settings, origins


def as_toml(settings: Settings, origins: Mapping[str, str]) -> str:
    """What is in force, as a file that would set the same; what is not set, and secrets, stand in comments."""
    lines = []
    for row in TABLE:
        value = getattr(settings, row.field)
        hidden = row.secret or value is None
        lines.append(f"{'# ' if hidden else ''}{row.name} = {_toml(row, value)}  # {origins[row.field]}")
    return "\n".join(lines)


def _toml(row: Setting, value: Any) -> str:
    if row.secret:
        return f'"({len(value)} hidden)"'
    if value is None:
        return '""'
    if isinstance(value, bool):
        return str(value).lower()
    if row.kind.one:
        return json.dumps([row.kind.one.write(item) for item in value], ensure_ascii=False)
    written = row.kind.write(value)
    return (
        written
        if isinstance(value, int | float) and not written[-1].isalpha()
        else json.dumps(written, ensure_ascii=False)
    )


def _from_environment(environ: Mapping[str, str], problems: Problems) -> dict[str, Any]:
    rows = {row.variable: row for row in TABLE}
    given = {name: word for name, word in environ.items() if name.startswith(_PREFIX) and name != CONFIG and word}
    found: dict[str, Any] = {}
    for name, word in given.items():
        if name not in rows:
            problems.add(f"environment: {name} is not known{_nearest(name, rows)}")
            continue
        _read(rows[name], word, f"environment variable {name}", found, problems)
    return found


def _from_file(file: Path | None, problems: Problems) -> dict[str, Any]:
    if file is None:
        return {}
    require_file(file, ".toml")
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as fault:
        raise ConvertError(f"{file}: cannot be read: {fault.strerror}") from fault
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise ConvertError(f"{file}: not TOML: {fault}") from fault
    rows = {row.name: row for row in TABLE}
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name not in rows:
            problems.add(f"{file}: '{name}' is not known{_nearest(name, rows)}")
        elif rows[name].secret:
            problems.add(f"{file}: '{name}' is a secret, which does not belong here; see 'api_keys'")
        else:
            _read(rows[name], value, f"{file}: '{name}'", found, problems)
    return found


def _read(row: Setting, value: Any, where: str, found: dict[str, Any], problems: Problems) -> None:
    try:
        found[row.field] = row.kind.read(value)
    except ValueError as fault:
        problems.add(f"{where}: {'the value is not what it should be' if row.secret else fault}")


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(name, list(known), 1)
    return f"; the nearest is '{near[0]}'" if near else ""


def _check(settings: Settings, problems: Problems) -> None:
    """What settings must fit together."""
    if not settings.models and settings.repository is None:
        problems.add("there is nothing to serve: give a model, or a folder of models with --repository")
    if (settings.tls_cert is None) != (settings.tls_key is None):
        problems.add("TLS needs both a certificate and its key: --tls-cert and --tls-key")
    if settings.max_inflight < settings.max_body:
        problems.add(f"--max-inflight ({settings.max_inflight} bytes) is less than --max-body ({settings.max_body})")
    if settings.grpc_port is not None and settings.grpc_port == settings.port != 0:
        problems.add(f"HTTP and gRPC cannot share port {settings.port}")
