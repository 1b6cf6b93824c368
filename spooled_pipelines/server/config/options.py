"""The one table of what `serve` can be told.

From it follow the flags, the variables, the keys of a config file, `--print-config`, docs/cli.md
and the table in docs/server.md. An option is a row here and a field of `ServerSettings`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from spooled_pipelines.server.config.settings import ConnectionLimits, ServerSettings

PREFIX = "SPOOLED_SERVER_"
UNLIMITED = "unlimited"
# Name, kind and help of each.
_TABLE = """
listen                  TEXT          HOST:PORT, or unix:PATH; port 0 takes a free one and prints
                                      it.
store                   SECRET_URL    Where jobs are kept: sqlite:///PATH (three slashes and a
                                      relative path, four and an absolute one), or
                                      postgresql://USER@HOST/DATABASE.
store_file              TEXT          A file that holds --store, as for its password.
migrate                 TEXT          auto makes the store's schema and brings it up to date at the
                                      start; refuse leaves that to `spooled-pipelines migrate`.
api_key                 SECRET_WORDS  Admin keys besides those in the store: repeat the flag,
                                      separate them by spaces in a variable. Also SPOOLED_API_KEY.
                                      As a flag, other users of this machine see them in `ps`.
api_key_file            TEXT          A file that holds such keys, one a line, read at the start.
tls_cert                TEXT          PEM file of the certificate chain, read again when it changes;
                                      without it the server uses no TLS.
tls_key                 TEXT          PEM file of its private key, not encrypted.
tls_client_ca           TEXT          PEM file; clients must present a certificate signed by it.
wrong_keys_per_minute   INTEGER       How many wrong keys one peer may try a minute.
rate_limit              RATE          Requests a second for each organization; bursts of twice that.
daily_quota             QUOTA         New jobs a day (of UTC) for each organization.
max_message_bytes       INTEGER       The largest message that is taken, 4 MiB at least.
max_streams             INTEGER       Calls and streams at once on one connection.
max_connections         INTEGER       Connections at once; never more than 80 % of the files that
                                      the process may open.
max_connections_per_address INTEGER   Connections at once of one address; never more than 25 % of
                                      those files.
max_metadata_bytes      INTEGER       The largest headers of a call, plus 32 bytes for each header.
max_idle_seconds        SECONDS       A connection without any call is closed after this time.
keepalive_seconds       SECONDS       A peer that is silent for this time is pinged, and
                                      disconnected after 20 s without an answer.
min_ping_seconds        SECONDS       Clients that repeatedly ping faster than this are
                                      disconnected.
max_age_seconds         MAX_AGE       Clients are asked to reconnect after this time, so that those
                                      behind a balancer spread over new servers; their streams are
                                      closed a minute later, and continue elsewhere.
require_lease_id        SWITCH        Settle jobs only with their lease id, as Spooled Cloud does.
batch_extension         SWITCH        Speak the batch extension too; without it the server behaves
                                      as a plain one.
max_deliveries          INTEGER       How often a job may be handed out, given back or lost with
                                      its worker, until it is a dead letter ("Poison"); at least as
                                      often as its retries allow.
keep_settled            DURATION      How long jobs that completed or were cancelled keep payload,
                                      result and tags: 7d, 12h, 30m.
keep_keys               DURATION      How long such jobs, if in no batch, and their idempotency keys
                                      are kept at all.
keep_batches            DURATION      How long batches are kept after they settled, with statistics,
                                      jobs and keys.
keep_dead_letters       DURATION      How long dead letters are kept; a batch that has some stays as
                                      long as they do.
metrics                 TEXT          HOST:PORT where Prometheus finds /metrics, in plain HTTP.
http                    TEXT          HOST:PORT of the dashboard, with /metrics, /healthz and
                                      /readyz; over TLS where --tls-cert is given.
http_public_url         TEXT          Where browsers reach the dashboard through a proxy, such as
                                      https://spooled.example.org, without a path: forms are taken
                                      from there alone, and with https cookies are Secure.
http_frame_ancestors    WORDS         Sites that may show the dashboard in a frame, such as
                                      https://airflow.example.org, without a path: repeat the flag,
                                      separate them by spaces in a variable.
log_format              TEXT          Lines of text, or json for programs.
log_level               TEXT          debug, info (a line for each call), warning or error. Starts,
                                      migrations, drains, prunings and admin acts are logged at all
                                      levels but error.
grace_seconds           SECONDS       How long running calls may take after SIGTERM.
"""


class Kind(Enum):
    """How the value of an option is written."""

    TEXT = auto()
    INTEGER = auto()
    SECONDS = auto()
    SWITCH = auto()
    # Several values: a flag that is repeated, words of a variable, a list in a file.
    WORDS = auto()
    # Values that are never shown as they are.
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
    default: object
    unset: str
    metavar: str | None
    choices: tuple[str, ...]

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


_DEFAULTS = {
    **vars(ConnectionLimits()),
    **vars(ServerSettings()),
    "log_format": "text",
    "log_level": "warning",
}
_UNSET = {
    Kind.RATE: UNLIMITED,
    Kind.QUOTA: UNLIMITED,
    Kind.MAX_AGE: UNLIMITED,
    Kind.DURATION: "for ever",
}
_METAVARS = {"rate_limit": "N", "daily_quota": "N", "http_frame_ancestors": "ORIGIN"}
_CHOICES = {
    "migrate": ("auto", "refuse"),
    "log_format": ("text", "json"),
    "log_level": ("debug", "info", "warning", "error"),
}


def _options(table: str) -> Iterator[Option]:
    for row in re.split(r"\n(?=\w)", table.strip()):
        name, kind_name, text = row.split(None, 2)
        kind = Kind[kind_name]
        yield Option(
            name,
            kind,
            " ".join(text.split()),
            _DEFAULTS.get(name),
            _UNSET.get(kind, "none"),
            _METAVARS.get(name),
            _CHOICES.get(name, ()),
        )


OPTIONS: Mapping[str, Option] = {option.name: option for option in _options(_TABLE)}
# A file that holds the value, in place of the value itself.
FILES = {"api_key_file": "api_key", "store_file": "store"}
