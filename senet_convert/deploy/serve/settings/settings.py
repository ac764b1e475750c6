"""Everything that can be set, in one table: the command line, environment and configuration file all read it.

`max_batch` is `--max-batch` on the command line, `SENET_CONVERT_SERVE_MAX_BATCH` in the environment and `max_batch` in
TOML; so are all others.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runtime.providers import AUTO, PROVIDERS
from ..models.model_paths import ModelPath
from . import types
from .types import Kind

if TYPE_CHECKING:
    from ..models.batcher import Limits
    from ..models.served import Engine

_MIB = 2**20

WHAT, NETWORK, ENGINE, BATCHING, LIFE, SAFETY, LOGS = (
    "Models",
    "Network",
    "Engine",
    "Batching",
    "Start and stop",
    "Safety",
    "Logs and traces",
)


def _setting(default: Any, kind: Kind, group: str, text: str, name: str = "", secret: bool = False) -> Any:
    return field(default=default, metadata={"kind": kind, "group": group, "help": text, "name": name, "secret": secret})


@dataclass(frozen=True)
class Settings:
    """How a server runs. Sizes in bytes, times in seconds."""

    models: tuple[ModelPath, ...] = _setting((), types.MODELS, WHAT, "The models to serve: PATH or NAME=PATH.")
    repository: Path | None = _setting(
        None, types.FOLDER, WHAT, "A folder of models that may come and go: NAME/model.onnx or NAME/VERSION/model.onnx."
    )
    gates: bool = _setting(True, types.SWITCH, WHAT, "Show the gates of SE blocks; needs a second copy of the model.")

    host: str = _setting("127.0.0.1", types.TEXT, NETWORK, "Address to listen on; 0.0.0.0 for every one.")
    port: int = _setting(8000, types.PORT, NETWORK, "Port of HTTP; 0 for any free one.")
    uds: Path | None = _setting(None, types.PATH, NETWORK, "Unix socket for HTTP, in place of address and port.")
    grpc_port: int | None = _setting(None, types.PORT, NETWORK, "Port of gRPC; without it gRPC is off.")
    tls_cert: Path | None = _setting(None, types.FILE, NETWORK, "Certificate chain (PEM): makes it HTTPS.")
    tls_key: Path | None = _setting(None, types.FILE, NETWORK, "Its private key (PEM).")
    trusted_proxies: tuple[str, ...] = _setting(
        (), types.TEXTS, NETWORK, "Proxies whose X-Forwarded-For and -Proto are believed: addresses or networks."
    )
    allowed_hosts: tuple[str, ...] = _setting(
        (),
        types.TEXTS,
        NETWORK,
        "Names under which it may be asked besides this machine's, such as *.example.org (421). Without any, a server "
        "that others can reach answers to every name.",
    )
    cors_origin: tuple[str, ...] = _setting(
        (), types.TEXTS, NETWORK, "Origins whose pages may use this server, such as https://app.example.org; * for all."
    )
    root_path: str = _setting("", types.PREFIX, NETWORK, "A proxy's prefix before every path, such as /inference.")

    provider: str = _setting(
        AUTO, types.choice(AUTO, *PROVIDERS), ENGINE, "What computes; one that does not really start is an error."
    )
    threads: int | None = _setting(
        None, types.whole(1), ENGINE, "Threads that compute, of all instances together; default: the usable cores."
    )
    instances: int = _setting(1, types.whole(1, 64), ENGINE, "Sessions of each version, which run at the same time.")
    spin: bool = _setting(
        True, types.SWITCH, ENGINE, "Threads wait busily for the next step of a run; off where others need the cores."
    )
    engine_cache: Path | None = _setting(None, types.PATH, ENGINE, "Folder where TensorRT keeps engines and timings.")

    max_batch: int = _setting(16, types.whole(1, 4096), BATCHING, "Most images in one run.")
    max_wait: float = _setting(
        0.002, types.MILLISECONDS, BATCHING, "Time that a run waits for company, when there was some.", "max_wait_ms"
    )
    queue: int = _setting(128, types.whole(1), BATCHING, "Requests that may wait for a model; more are refused (429).")
    deadline: float = _setting(
        30.0, types.number(0.001), BATCHING, "Time until a request must be answered (504); a request may ask for less."
    )

    grace: float = _setting(30.0, types.SECONDS, LIFE, "Time that requests may take to finish after SIGTERM.")
    linger: float = _setting(
        2.0, types.SECONDS, LIFE, "Time after SIGTERM in which requests are still taken, while readiness is 503."
    )
    reload: float = _setting(2.0, types.SECONDS, LIFE, "How often to look for replaced models; 0 for on SIGHUP only.")
    control: str = _setting(
        "auto",
        types.choice("auto", "on", "off"),
        LIFE,
        "May clients load and unload models? auto: with API keys, or on a loopback address.",
    )

    api_keys: Path | None = _setting(
        None, types.FILE, SAFETY, "File of API keys, one in a line, or sha256:HEX of one; clients must then give one."
    )
    api_key: tuple[str, ...] = _setting((), types.TEXTS, SAFETY, "API keys, from the environment only.", secret=True)
    open_metrics: bool = _setting(True, types.SWITCH, SAFETY, "Give /metrics without an API key.")
    rate: float = _setting(
        0.0,
        types.number(0, metavar="N"),
        SAFETY,
        "Requests per second of one API key, or of one address where there are no keys; 0 for any number.",
    )
    max_body: int = _setting(64 * _MIB, types.size(1024), SAFETY, "Largest body of a request (413).")
    max_inflight: int = _setting(512 * _MIB, types.size(1024), SAFETY, "Bodies of all requests together (503).")
    max_connections: int = _setting(1000, types.whole(1), SAFETY, "Connections at the same time (503).")
    max_connections_per_client: int = _setting(
        500, types.whole(1), SAFETY, "Those of one address, trusted proxies apart (503)."
    )
    max_headers: int = _setting(32 * 1024, types.size(1024), SAFETY, "Largest head of a request (431).")
    body_timeout: float = _setting(
        30.0, types.number(0.01), SAFETY, "Time for a body to arrive, and for an answer to be taken (408)."
    )
    header_timeout: float = _setting(10.0, types.number(0.01), SAFETY, "Time for a request's head to arrive.")
    max_pixels: int = _setting(50_000_000, types.whole(1), SAFETY, "Most pixels of a picture, told by its header.")
    max_depth: int = _setting(16, types.whole(3, 200), SAFETY, "How deep JSON may be nested.")

    log_format: str = _setting("text", types.choice("text", "json"), LOGS, "Form of the log on stderr.")
    log_level: str = _setting("info", types.choice("debug", "info", "warning", "error"), LOGS, "What is logged.")
    access_log: bool = _setting(True, types.SWITCH, LOGS, "A line for each request.")
    otel: bool = _setting(False, types.SWITCH, LOGS, "OpenTelemetry traces by OTLP, set up by OTEL_... variables.")

    @property
    def engine(self) -> Engine:
        """What the models run on."""
        from ...runtime.providers import Tuning
        from ..models.served import Engine

        tuning = Tuning(cache=self.engine_cache)
        return Engine(self.provider, self.threads, self.instances, self.max_batch, self.spin, tuning)

    @property
    def limits(self) -> Limits:
        """What requests are held to."""
        from ..models.batcher import Limits

        return Limits(self.max_wait, self.queue, self.deadline)

    @property
    def keyed(self) -> bool:
        """Must clients give an API key?"""
        return bool(self.api_keys or self.api_key)

    @property
    def local(self) -> bool:
        """Can only this machine reach it?"""
        return self.uds is not None or _loopback(self.host)

    @property
    def controllable(self) -> bool:
        """May clients load and unload models?"""
        return self.control == "on" or (self.control == "auto" and (self.keyed or self.local))


@dataclass(frozen=True)
class Setting:
    """A row of the table. `field` is its name in `Settings`, `name` the one that people write."""

    field: str
    name: str
    default: Any
    kind: Kind
    group: str
    help: str
    secret: bool

    @property
    def flag(self) -> str:
        """Its option on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return f"SENET_CONVERT_SERVE_{self.name.upper()}"

    def show(self, value: Any) -> str:
        """A value as it is written in any of the sources; nothing for None, and never a secret."""
        if self.secret:
            return f"({len(value)} hidden)" if value else ""
        return "" if value is None else self.kind.write(value)


def _row(name: str, default: Any, given: Any) -> Setting:
    return Setting(name, given["name"] or name, default, given["kind"], given["group"], given["help"], given["secret"])


TABLE = tuple(_row(one.name, one.default, one.metadata) for one in fields(Settings))


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
