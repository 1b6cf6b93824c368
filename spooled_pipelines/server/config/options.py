"""The one table of what `serve` can be told.

From it follow the flags, the variables, the keys of a config file, `--print-config`, docs/cli.md
and the table in docs/server.md. An option is a row here and a field of `ServerSettings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from spooled_pipelines.server.config.settings import ConnectionLimits, ServerSettings

PREFIX = "SPOOLED_SERVER_"
UNLIMITED = "unlimited"
FOR_EVER = "for ever"
_DEFAULTS = {**vars(ConnectionLimits()), **vars(ServerSettings())}


class Kind(Enum):
    """How the value of an option is written."""

    TEXT = auto()
    INTEGER = auto()
    SECONDS = auto()
    SWITCH = auto()
    # Several values: a flag that is repeated, words of a variable, a list in a file.
    WORDS = auto()
    # Shown without what is secret in them.
    SECRET_URL = auto()
    SECRET_WORDS = auto()
    # Numbers, or "unlimited".
    RATE = auto()
    QUOTA = auto()
    MAX_AGE = auto()
    # 7d, 12h, 30m.
    DURATION = auto()


@dataclass(frozen=True, slots=True)
class Option:
    """One thing that `serve` can be told, by its name in a config file.

    Attributes:
        default: holds where nothing is said; None: it is not set.
        unset: how the help calls a default of None.
        choices: the values that there are; empty: any.
    """

    name: str
    kind: Kind
    help: str
    default: object = None
    unset: str = "none"
    metavar: str | None = None
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """The name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The name in the environment."""
        return PREFIX + self.name.upper()

    @property
    def shown_default(self) -> str:
        """The default as the help shows it."""
        if self.default in (None, ()):
            return self.unset
        if isinstance(self.default, bool):
            return str(self.default).lower()
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)


def _option(name: str, kind: Kind, text: str, *, unset: str = "none", metavar: str = "") -> Option:
    return Option(name, kind, text, _DEFAULTS.get(name), unset, metavar or None)


def _choice(name: str, default: str, choices: tuple[str, ...], text: str) -> Option:
    return Option(name, Kind.TEXT, text, default, choices=choices)


OPTIONS: Mapping[str, Option] = {
    option.name: option
    for option in (
        _option(
            "listen", Kind.TEXT, "HOST:PORT, or unix:PATH; port 0 takes a free one and prints it."
        ),
        _option(
            "store",
            Kind.SECRET_URL,
            "Where jobs are kept: sqlite:///PATH (three slashes and a relative path, four and an "
            "absolute one), or postgresql://USER@HOST/DATABASE.",
        ),
        _option("store_file", Kind.TEXT, "A file that holds --store, as for its password."),
        _option(
            "api_key",
            Kind.SECRET_WORDS,
            "Admin keys besides those in the store: repeat the flag, separate them by spaces in a "
            "variable. Also SPOOLED_API_KEY.",
        ),
        _option("api_key_file", Kind.TEXT, "A file that holds such keys, one a line."),
        _option(
            "tls_cert",
            Kind.TEXT,
            "PEM file of the certificate chain, read again when it changes; without it the server "
            "uses no TLS.",
        ),
        _option("tls_key", Kind.TEXT, "PEM file of its private key, not encrypted."),
        _option(
            "tls_client_ca",
            Kind.TEXT,
            "PEM file; clients must present a certificate signed by it.",
        ),
        _option(
            "wrong_keys_per_minute", Kind.INTEGER, "How many wrong keys one peer may try a minute."
        ),
        _option(
            "rate_limit",
            Kind.RATE,
            "Requests a second for each organization; bursts of twice that.",
            unset=UNLIMITED,
            metavar="N",
        ),
        _option(
            "daily_quota",
            Kind.QUOTA,
            "New jobs a day (of UTC) for each organization.",
            unset=UNLIMITED,
            metavar="N",
        ),
        _option(
            "max_message_bytes",
            Kind.INTEGER,
            "The largest message that is taken, 4 MiB at least.",
        ),
        _option("max_streams", Kind.INTEGER, "Calls and streams at once on one connection."),
        _option(
            "max_metadata_bytes",
            Kind.INTEGER,
            "The largest headers of a call, plus 32 bytes for each header.",
        ),
        _option(
            "max_idle_seconds",
            Kind.SECONDS,
            "A connection without any call is closed after this time.",
        ),
        _option(
            "keepalive_seconds",
            Kind.SECONDS,
            "A peer that is silent for this time is pinged, and disconnected after 20 s without an "
            "answer.",
        ),
        _option(
            "min_ping_seconds",
            Kind.SECONDS,
            "Clients that repeatedly ping faster than this are disconnected.",
        ),
        _option(
            "max_age_seconds",
            Kind.MAX_AGE,
            "Clients are asked to reconnect after this time, so that those behind a balancer "
            "spread over new servers; their streams are closed a minute later, and continue "
            "elsewhere.",
            unset=UNLIMITED,
        ),
        _option(
            "require_lease_id",
            Kind.SWITCH,
            "Settle jobs only with their lease id, as Spooled Cloud does.",
        ),
        _option(
            "batch_extension",
            Kind.SWITCH,
            "Speak the batch extension too; without it the server behaves as a plain one.",
        ),
        _option(
            "keep_settled",
            Kind.DURATION,
            "How long jobs that completed or were cancelled keep payload, result and tags: 7d, "
            "12h, 30m.",
            unset=FOR_EVER,
        ),
        _option(
            "keep_keys",
            Kind.DURATION,
            "How long such jobs, if in no batch, and their idempotency keys are kept at all.",
            unset=FOR_EVER,
        ),
        _option(
            "keep_batches",
            Kind.DURATION,
            "How long batches are kept after they settled, with statistics, jobs and keys.",
            unset=FOR_EVER,
        ),
        _option(
            "keep_dead_letters",
            Kind.DURATION,
            "How long dead letters are kept; a batch that has some stays as long as they.",
            unset=FOR_EVER,
        ),
        _option("metrics", Kind.TEXT, "HOST:PORT where Prometheus finds /metrics, in plain HTTP."),
        _option(
            "http",
            Kind.TEXT,
            "HOST:PORT of the dashboard, with /metrics, /healthz and /readyz; over TLS where "
            "--tls-cert is given.",
        ),
        _option(
            "http_frame_ancestors",
            Kind.WORDS,
            "Sites that may show the dashboard in a frame, such as https://airflow.example.org, "
            "without a path: repeat the flag, separate them by spaces in a variable.",
            metavar="ORIGIN",
        ),
        _choice("log_format", "text", ("text", "json"), "Lines of text, or json for programs."),
        _choice(
            "log_level",
            "warning",
            ("debug", "info", "warning", "error"),
            "debug, info (a line for each call), warning or error.",
        ),
        _option("grace_seconds", Kind.SECONDS, "How long running calls may take after SIGTERM."),
    )
}
# A file that holds the value, in place of the value itself.
FILES = {"api_key_file": "api_key", "store_file": "store"}
