"""What a server was told: flags before the environment before a config file before the defaults.

Each source is checked by itself, so that what is wrong is said with the place where it stands.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from spooled_pipelines.server.config.options import (
    FILES,
    SECRETS,
    TABLES,
    UNLIMITED,
    Options,
    OrganizationOptions,
)
from spooled_pipelines.server.config.settings import (
    ConnectionLimits,
    OrganizationLimits,
    ServerSettings,
    shown_store,
)
from spooled_pipelines.server.core.retention import retention_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "SPOOLED_SERVER_"
CONFIG_VARIABLE = PREFIX + "CONFIG"
# What Kubernetes sets in every container where a service is called spooled-server.
_OF_KUBERNETES = re.compile(PREFIX + r"(SERVICE_|PORT(_|$))")
# What clients read as well.
KEY_VARIABLE = "SPOOLED_API_KEY"
_DEFAULT = "default"
_CONNECTION_NAMES = tuple(ConnectionLimits.__dataclass_fields__)


class ConfigError(ValueError):
    """What the server was told makes no sense: a sentence for each thing that is wrong."""


@dataclass(frozen=True)
class Config:
    """The settings, and where each option is from."""

    options: Options
    origins: Mapping[str, str]
    settings: ServerSettings

    def lines(self) -> Iterator[str]:
        """Every option with its value and origin, as a config file would say it; no secrets."""
        tables = []
        for name in Options.model_fields:
            if name in FILES:
                continue
            value, origin = getattr(self.options, name), self.origins.get(name, _DEFAULT)
            if name in TABLES:
                tables += [(f"{name}.{json.dumps(key)}", table) for key, table in value.items()]
            elif name in SECRETS:
                yield f"{name} = {_hidden(name, value)}  # {origin}"
            elif value is None:
                yield f"# {name} is not set  # {origin}"
            else:
                yield f"{name} = {_toml(value)}  # {origin}"
        for header, table in tables:
            yield ""
            yield f"[{header}]  # {self.origins['organizations']}"
            for name in sorted(table.model_fields_set):
                value = getattr(table, name)
                yield f"{name} = {_toml(UNLIMITED if value is None else value)}"


@dataclass(frozen=True)
class _Source:
    """What one place says, checked; `origins` has an entry for each option that it names."""

    options: Options
    origins: Mapping[str, str]


def load(
    flags: Mapping[str, object], environment: Mapping[str, str], path: str | None = None
) -> Config:
    """What holds, of flags by their names, environment variables and the file.

    `path` None: the file that SPOOLED_SERVER_CONFIG names, if it does. ConfigError says what is
    wrong, and where.
    """
    path = path or environment.get(CONFIG_VARIABLE) or None
    # From the weakest to the strongest.
    sources = [_of_environment(environment), _of_flags(flags)]
    if path:
        sources.insert(0, _of_file(path))
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for source in sources:
        for name, origin in source.origins.items():
            values[name], origins[name] = getattr(source.options, name), origin
    options = Options.model_construct(**values)
    try:
        return Config(options, origins, _settings(options))
    except ValueError as error:
        raise ConfigError(_with_origins(str(error), origins)) from error


def _of_flags(flags: Mapping[str, object]) -> _Source:
    return _checked(flags, {name: "--" + name.replace("_", "-") for name in flags})


def _of_environment(environment: Mapping[str, str]) -> _Source:
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    known = {PREFIX + name.upper(): name for name in Options.model_fields if name not in TABLES}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE or not value:
            continue
        if _OF_KUBERNETES.match(variable):
            continue
        name = known.get(variable, variable)
        values[name], origins[name] = value, variable
    if environment.get(KEY_VARIABLE) and not values.keys() & {"api_key", "api_key_file"}:
        values["api_key"], origins["api_key"] = environment[KEY_VARIABLE], KEY_VARIABLE
    return _checked(values, origins, known)


def _of_file(path: str) -> _Source:
    try:
        values = tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{path}: the config file cannot be read: {reason}") from error
    except ValueError as error:
        # Also what is no UTF-8. The message has a line and a column, and no values.
        raise ConfigError(f"{path}: the config file is not TOML: {error}") from error
    # A file has types of its own: "8" is not 8.
    return _checked(values, dict.fromkeys(values, path), strict=True)


def _checked(
    values: Mapping[str, object],
    origins: Mapping[str, str],
    known: Mapping[str, str] | None = None,
    *,
    strict: bool = False,
) -> _Source:
    try:
        options = Options.model_validate(dict(values), strict=strict)
    except ValidationError as error:
        problems = [_problem(detail, origins, known) for detail in error.errors()]
        raise ConfigError("; ".join(problems)) from error
    origins = dict(origins)
    for file_name, name in FILES.items():
        if file_name not in origins:
            continue
        if name in origins:
            raise ConfigError(
                f"{origins[name]}: {name} and {file_name} say the same thing: give one of them"
            )
        file = getattr(options, file_name)
        secret = _secret(file, f"{origins[file_name]}: {file_name}")
        found = [SecretStr(word) for word in secret.split()] if name == "api_key" else secret
        setattr(options, name, SecretStr(found) if isinstance(found, str) else found)
        origins[name] = f"{file}, named by {origins.pop(file_name)}"
    return _Source(options, origins)


def _secret(path: str, where: str) -> str:
    try:
        secret = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(f"{where} is {path!r}, which cannot be read: {reason}") from error
    if not secret:
        raise ConfigError(f"{where} is {path!r}, which is empty")
    return secret


def _problem(detail: Any, origins: Mapping[str, str], known: Mapping[str, str] | None) -> str:
    """A sentence about one thing that is wrong, with its value unless that may be a secret."""
    place = [str(part) for part in detail["loc"]]
    name, where = place[0], origins[place[0]]
    if detail["type"] == "extra_forbidden":
        table = OrganizationOptions if name in TABLES and len(place) > 1 else Options
        names = list(known or table.model_fields)
        close = difflib.get_close_matches(place[-1], names, 1)
        advice = f"did you mean {close[0]}?" if close else "known are " + ", ".join(names)
        setting = "such setting" if known else f"setting {'.'.join(place)}"
        return f"{where}: there is no {setting}; {advice}"
    said = detail["msg"].removeprefix("Value error, ")
    said = said.replace("Input should", "it should")
    key = ".".join(place)
    if name in SECRETS:
        return f"{where}: {key}: {said}"
    return f"{where}: {key} is {detail['input']!r}: {said}"


def _with_origins(message: str, origins: Mapping[str, str]) -> str:
    """A message about several options, with where each that it names is from."""
    named = [name for name in origins if re.search(rf"\b{name}\b", message)]
    found = ", ".join(f"{name} is from {origins[name]}" for name in named)
    return f"{message} ({found})" if found else message


def _settings(options: Options) -> ServerSettings:
    organizations = {
        name: OrganizationLimits(
            **{
                field: getattr(table if field in table.model_fields_set else options, field)
                for field in ("rate_limit", "daily_quota")
            }
        )
        for name, table in options.organizations.items()
    }
    return ServerSettings(
        listen=options.listen,
        store=options.store.get_secret_value(),
        api_keys=tuple(key.get_secret_value() for key in options.api_key),
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        tls_client_ca=options.tls_client_ca,
        wrong_keys_per_minute=options.wrong_keys_per_minute,
        rate_limit=options.rate_limit,
        daily_quota=options.daily_quota,
        organizations=organizations,
        connections=ConnectionLimits(
            **{name: getattr(options, name) for name in _CONNECTION_NAMES}
        ),
        require_lease_id=options.require_lease_id,
        batch_extension=options.batch_extension,
        retention=retention_of(
            options.keep_settled,
            options.keep_keys,
            options.keep_batches,
            options.keep_dead_letters,
        ),
        metrics=options.metrics,
        http=options.http,
        http_frame_ancestors=tuple(options.http_frame_ancestors),
        grace_seconds=options.grace_seconds,
    )


def _hidden(name: str, value: Any) -> str:
    if name == "store":
        return _toml(shown_store(value.get_secret_value()))
    return _toml(["(hidden)"] * len(value))


def _toml(value: object) -> str:
    # JSON's strings, numbers, lists and booleans are TOML's too.
    return json.dumps(value, ensure_ascii=False)
