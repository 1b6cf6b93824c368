"""Load the settings: flags before the environment before a config file before the defaults.

Each source is checked by itself, so that an error names the place where the wrong value stands.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    create_model,
)

from spooled_pipelines.durations import seconds_in
from spooled_pipelines.server.config.options import FILES, OPTIONS, PREFIX, UNLIMITED, Kind, Option
from spooled_pipelines.server.config.settings import (
    ConnectionLimits,
    OrganizationLimits,
    ServerSettings,
    shown_store,
)
from spooled_pipelines.server.core.upkeep.retention import retention_of, seconds_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG_VARIABLE = PREFIX + "CONFIG"
# What Kubernetes sets in every container where a service is called spooled-server.
_OF_KUBERNETES = re.compile(PREFIX + r"(SERVICE_|PORT(_|$))")
# The variable that clients read as well.
KEY_VARIABLE = "SPOOLED_API_KEY"
# The one table in a file.
_ORGANIZATIONS = "organizations"
_SECRETS = (Kind.SECRET_URL, Kind.SECRET_WORDS)


def _unlimited_is_none(value: Any) -> Any:
    return None if value == UNLIMITED else value


def _words(value: Any) -> Any:
    return value.split() if isinstance(value, str) else value


def _duration(value: str) -> str:
    seconds_of(value)
    return value


def _seconds(value: object) -> object:
    # A number of them, or such as 1m; what is neither is refused as no number.
    seconds = seconds_in(value) if isinstance(value, str) else None
    return value if seconds is None else seconds


_LIMIT = BeforeValidator(_unlimited_is_none)
_WORDS = BeforeValidator(_words)
_Rate = Annotated[float | None, Field(gt=0, allow_inf_nan=False), _LIMIT]
_Quota = Annotated[int | None, Field(ge=0), _LIMIT]
_TYPES: Mapping[Kind, Any] = {
    Kind.TEXT: str,
    Kind.INTEGER: int,
    Kind.SECONDS: Annotated[float, BeforeValidator(_seconds)],
    Kind.SWITCH: bool,
    Kind.WORDS: Annotated[list[str], _WORDS],
    Kind.SECRET_URL: SecretStr,
    Kind.SECRET_WORDS: Annotated[list[SecretStr], _WORDS],
    Kind.RATE: _Rate,
    Kind.QUOTA: _Quota,
    Kind.MAX_AGE: Annotated[float | None, _LIMIT],
    Kind.DURATION: Annotated[str, AfterValidator(_duration)],
}


class OrganizationOptions(BaseModel):
    """The limits of one organization; those that are not given are as for all."""

    model_config = ConfigDict(extra="forbid")

    rate_limit: _Rate = None
    daily_quota: _Quota = None


def _field(option: Option) -> tuple[Any, object]:
    if option.kind is Kind.SECRET_URL:
        return SecretStr, SecretStr(str(option.default))
    if option.kind in (Kind.WORDS, Kind.SECRET_WORDS):
        return _TYPES[option.kind], []
    kind = Literal[option.choices] if option.choices else _TYPES[option.kind]
    return (kind if option.default is not None else kind | None), option.default


# All options, at their defaults unless given.
Options = create_model(
    "Options",
    __config__=ConfigDict(extra="forbid"),
    **{name: _field(option) for name, option in OPTIONS.items()},  # type: ignore[call-overload]
    organizations=(dict[str, OrganizationOptions], {}),
)


_KEY_MIN = 16
# What manifests and examples have in the place of a key.
_PLACEHOLDER = re.compile(r"replace.?me|change.?me|your.?key|[<>]|\.\.\.$", re.IGNORECASE)
_MAKE_KEY = "make one such as `echo sp_live_$(openssl rand -hex 16)` prints"


class ConfigError(ValueError):
    """Settings that cannot hold, with a sentence for each thing that is wrong."""


@dataclass(frozen=True)
class Config:
    """The settings, the values of all options, and the place of each that was given."""

    values: Mapping[str, Any]
    origins: Mapping[str, str]
    settings: ServerSettings

    @property
    def log_format(self) -> str:
        """How the log is written."""
        return str(self.values["log_format"])

    @property
    def log_level(self) -> str:
        """What the log is about."""
        return str(self.values["log_level"])

    def described(self) -> dict[str, Any]:
        """Return every option with its value and source, for programs; no secrets."""
        described: dict[str, Any] = {}
        for name, option in OPTIONS.items():
            if name not in FILES:
                value, origin = self.values[name], self.origins.get(name, "default")
                if option.kind in _SECRETS:
                    value = json.loads(_hidden(option, value))
                described[name] = {"value": value, "from": origin}
        described[_ORGANIZATIONS] = {
            name: table.model_dump(exclude_unset=True)
            for name, table in self.values[_ORGANIZATIONS].items()
        }
        return described

    def lines(self) -> Iterator[str]:
        """Yield every option with its value and source as a config file has it; no secrets."""
        for name, option in OPTIONS.items():
            if name in FILES:
                continue
            value, origin = self.values[name], self.origins.get(name, "default")
            if option.kind in _SECRETS:
                yield f"{name} = {_hidden(option, value)}  # {origin}"
            elif value is None:
                yield f"# {name} is not set  # {origin}"
            else:
                yield f"{name} = {_toml(value)}  # {origin}"
        for organization, table in self.values[_ORGANIZATIONS].items():
            yield ""
            header = f"{_ORGANIZATIONS}.{json.dumps(organization)}"
            yield f"[{header}]  # {self.origins[_ORGANIZATIONS]}"
            for name in sorted(table.model_fields_set):
                value = getattr(table, name)
                yield f"{name} = {_toml(UNLIMITED if value is None else value)}"


# The checked values of options, each with the place where it stands.
_Given: TypeAlias = dict[str, tuple[Any, str]]


def load(
    flags: Mapping[str, object], environment: Mapping[str, str], path: str | None = None
) -> Config:
    """Return the settings, from flags by their names, environment variables and the config file.

    `path` None: the file that SPOOLED_SERVER_CONFIG names, if any. ConfigError says what is wrong,
    and where.
    """
    path = path or environment.get(CONFIG_VARIABLE) or None
    given = _of_file(path) if path else {}
    given |= _of_environment(environment)
    given |= _checked(flags, {name: OPTIONS[name].flag for name in flags})
    origins = {name: origin for name, (_, origin) in given.items()}
    for key, origin in _given_keys(given):
        _refuse_weak_key(key, origin)
    values = dict(Options.model_construct(**{name: value for name, (value, _) in given.items()}))
    try:
        return Config(values, origins, _settings(values))
    except ValueError as error:
        raise ConfigError(_with_origins(str(error), origins)) from error


def _given_keys(given: _Given) -> Iterator[tuple[str, str]]:
    keys, origin = given.get("api_key", ((), ""))
    return ((key.get_secret_value(), origin) for key in keys or ())


def _refuse_weak_key(key: str, origin: str) -> None:
    """ConfigError for a key that somebody may guess, or that was never put in."""
    if _PLACEHOLDER.search(key):
        raise ConfigError(f"{origin}: api_key is still a placeholder; {_MAKE_KEY}")
    if len(key) < _KEY_MIN:
        raise ConfigError(
            f"{origin}: api_key has {len(key)} characters, which can be guessed, and needs "
            f"{_KEY_MIN}; {_MAKE_KEY}"
        )


def _of_environment(environment: Mapping[str, str]) -> _Given:
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    known = {option.variable: name for name, option in OPTIONS.items()}
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


def _of_file(path: str) -> _Given:
    try:
        values = tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{path}: the config file cannot be read: {reason}") from error
    except ValueError as error:
        # Not UTF-8 either. The message has a line and a column, and no values.
        raise ConfigError(f"{path}: the config file is not TOML: {error}") from error
    # A file has types of its own: "8" is not 8.
    return _checked(values, dict.fromkeys(values, path), strict=True)


def _checked(
    values: Mapping[str, object],
    origins: Mapping[str, str],
    known: Mapping[str, str] | None = None,
    *,
    strict: bool = False,
) -> _Given:
    try:
        options = Options.model_validate(dict(values), strict=strict)
    except ValidationError as error:
        problems = [_problem(detail, origins, known) for detail in error.errors()]
        raise ConfigError("; ".join(problems)) from error
    given = {name: (getattr(options, name), origin) for name, origin in origins.items()}
    for file_name, name in FILES.items():
        if file_name not in given:
            continue
        file, origin = given.pop(file_name)
        if name in given:
            raise ConfigError(
                f"{given[name][1]}: {name} and {file_name} say the same thing: give one of them"
            )
        secret = _secret(file, f"{origin}: {file_name}")
        value = [*map(SecretStr, secret.split())] if name == "api_key" else SecretStr(secret)
        given[name] = (value, f"{file}, named by {origin}")
    return given


def _secret(path: str, where: str) -> str:
    try:
        secret = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(f"{where} is {path!r}, which cannot be read: {reason}") from error
    if not secret:
        raise ConfigError(f"{where} is {path!r}, which is empty")
    return secret


def _problem(detail: Any, origins: Mapping[str, str], known: Mapping[str, str] | None) -> str:
    """Return a sentence about one wrong value, shown unless it may be a secret."""
    place = [str(part) for part in detail["loc"]]
    name, where = place[0], origins[place[0]]
    if detail["type"] == "extra_forbidden":
        table = OrganizationOptions if name == _ORGANIZATIONS and len(place) > 1 else Options
        names = list(known or table.model_fields)
        close = difflib.get_close_matches(place[-1], names, 1)
        advice = f"did you mean {close[0]}?" if close else "known are " + ", ".join(names)
        setting = "such setting" if known else f"setting {'.'.join(place)}"
        return f"{where}: there is no {setting}; {advice}"
    option = OPTIONS.get(name)
    key = ".".join(place)
    subject = where if option and where in (option.flag, option.variable) else f"{where}: {key}"
    said = detail["msg"].removeprefix("Value error, ")
    if not said.startswith("Input should be "):
        return f"{subject}: {said}"
    wanted = re.split(", unable to| or instance of", said.removeprefix("Input should be "))[0]
    wanted = wanted.replace("valid dictionary", "table")
    got = "" if option and option.kind in _SECRETS else f", got {detail['input']!r}"
    return f"{subject} must be {wanted}{got}"


def _with_origins(message: str, origins: Mapping[str, str]) -> str:
    """Return a message with the source of each option that it names."""
    named = [name for name in origins if re.search(rf"\b{name}\b", message)]
    found = ", ".join(f"{name} is from {origins[name]}" for name in named)
    return f"{message} ({found})" if found else message


def _settings(values: Mapping[str, Any]) -> ServerSettings:
    given = dict(values)
    # What a table does not say is as for all.
    for_all = {name: given[name] for name in OrganizationLimits.__dataclass_fields__}
    organizations = {
        name: OrganizationLimits(
            **for_all | {field: getattr(table, field) for field in table.model_fields_set}
        )
        for name, table in given[_ORGANIZATIONS].items()
    }
    kept = {name: given[name] for name in OPTIONS if OPTIONS[name].kind is Kind.DURATION}
    given |= {
        "store": given["store"].get_secret_value(),
        "api_keys": tuple(key.get_secret_value() for key in given["api_key"]),
        "http_frame_ancestors": tuple(given["http_frame_ancestors"]),
        "organizations": organizations,
        "retention": retention_of(**kept),
        "connections": ConnectionLimits(
            **{name: given[name] for name in ConnectionLimits.__dataclass_fields__}
        ),
    }
    return ServerSettings(**{name: given[name] for name in ServerSettings.__dataclass_fields__})


def _hidden(option: Option, value: Any) -> str:
    if option.kind is Kind.SECRET_URL:
        return _toml(shown_store(value.get_secret_value()))
    return _toml(["(hidden)"] * len(value))


def _toml(value: object) -> str:
    # JSON's strings, numbers, lists and booleans are TOML's too.
    return json.dumps(value, ensure_ascii=False)
