"""The user's file of named servers: their addresses, and where their keys are kept.

default_profile = "here"

[profiles.here]
address = "embedded:spooled.db"

[profiles.production]
address = "queue.example.com:443"
api_key_env = "PRODUCTION_SPOOLED_KEY"   # or: api_key_keyring = true
tls_ca = "/etc/ssl/queue-ca.pem"
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spooled_pipelines.cli.exit_codes import UsageError
from spooled_pipelines.errors import AuthenticationError

if TYPE_CHECKING:
    from spooled_pipelines.rpc.settings import TLS

FILE_VARIABLE = "SPOOLED_CONFIG"
PROFILE_VARIABLE = "SPOOLED_PROFILE"
# The service under which keys are kept in a keyring; the user is the profile's name.
KEYRING_SERVICE = "spooled-pipelines"
_ADVICE = (
    "keys do not belong in this file: set api_key_env to a variable that holds the key, or "
    "api_key_keyring = true, and store it with `keyring set spooled-pipelines PROFILE`"
)


@dataclass(frozen=True)
class Profile:
    """A server that the file names. Relative paths start at the file's folder."""

    name: str
    address: str
    api_key_env: str | None = None
    api_key_keyring: bool = False
    tls: bool | None = None
    tls_ca: str | None = None
    tls_client_certificate: str | None = None
    tls_client_key: str | None = None
    tls_server_name: str | None = None

    @property
    def api_key_source(self) -> str:
        """Where the key is kept, for people."""
        if self.api_key_env:
            return f"the variable {self.api_key_env} (profile {self.name})"
        if self.api_key_keyring:
            return f"the keyring (profile {self.name})"
        return "SPOOLED_API_KEY"

    def api_key(self) -> str | None:
        """Return the key, or None if the profile names none.

        Raises:
            AuthenticationError: the key is not where the profile says.
        """
        if self.api_key_env:
            key = os.environ.get(self.api_key_env)
            if not key:
                raise AuthenticationError(
                    f"profile {self.name} takes its API key from {self.api_key_env}, but that "
                    "variable is not set",
                    reason="no_api_key_in_profile",
                )
            return key
        return self._from_keyring() if self.api_key_keyring else None

    def tls_settings(self) -> TLS | bool | None:
        """Return the `tls` argument of `connect`."""
        from spooled_pipelines.rpc.settings import TLS

        material = (
            self.tls_ca,
            self.tls_client_certificate,
            self.tls_client_key,
            self.tls_server_name,
        )
        return self.tls if material == (None,) * 4 else TLS(*material)

    def _from_keyring(self) -> str:
        try:
            import keyring
            import keyring.errors
        except ImportError:
            raise UsageError(
                f"profile {self.name} keeps its key in the keyring: "
                "pip install 'spooled-pipelines[keyring]'"
            ) from None
        try:
            key = keyring.get_password(KEYRING_SERVICE, self.name)
        except keyring.errors.KeyringError as error:
            raise AuthenticationError(
                f"the keyring cannot be read for profile {self.name}: {error}"
            ) from error
        if not key:
            raise AuthenticationError(
                f"the keyring holds no API key for profile {self.name}: "
                f"`keyring set {KEYRING_SERVICE} {self.name}`"
            )
        return key


@dataclass(frozen=True)
class Profiles:
    """The contents of a configuration file."""

    path: Path
    default: str | None
    named: Mapping[str, Profile]

    def get(self, name: str, source: str) -> Profile:
        """Return a profile; `source` says where its name was given, for a UsageError."""
        if name in self.named:
            return self.named[name]
        known = ", ".join(sorted(self.named)) or "none"
        raise UsageError(f"{source}: there is no profile {name!r} in {self.path} (known: {known})")


def config_path() -> Path:
    """Return SPOOLED_CONFIG, else spooled-pipelines/config.toml in the user's configuration."""
    if path := os.environ.get(FILE_VARIABLE):
        return Path(path).expanduser()
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "spooled-pipelines" / "config.toml"


def load_profiles() -> Profiles:
    """Read the file's profiles; none if there is no file.

    Raises:
        UsageError: the file cannot be read, or has a setting that is not allowed.
    """
    path = config_path()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if os.environ.get(FILE_VARIABLE):
            raise UsageError(f"{FILE_VARIABLE}: {path}: no such file") from None
        return Profiles(path, None, {})
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    return _read(path, _toml(path, text))


def chosen_profile(name: str | None, *, address: str | None) -> Profile | None:
    """Return the profile to use: --profile, SPOOLED_PROFILE or the file's default.

    The latter two are used only if neither --address nor SPOOLED_GRPC_ADDRESS is given.
    """
    if name is not None:
        if address is not None:
            raise UsageError("--profile and --address cannot be given together")
        return load_profiles().get(name, "--profile")
    if address is not None or os.environ.get("SPOOLED_GRPC_ADDRESS"):
        return None
    if default := os.environ.get(PROFILE_VARIABLE):
        return load_profiles().get(default, PROFILE_VARIABLE)
    profiles = load_profiles()
    if profiles.default is None:
        return None
    return profiles.get(profiles.default, "default_profile")


def _toml(path: Path, text: str) -> dict[str, Any]:
    # Slow to import, and most commands have no such file.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}") from error


def _read(path: Path, values: Mapping[str, Any]) -> Profiles:
    unknown = sorted(set(values) - {"default_profile", "profiles"})
    if unknown:
        raise UsageError(f"{path}: {unknown[0]} is not known: default_profile and [profiles.NAME]")
    default, tables = values.get("default_profile"), values.get("profiles", {})
    if not (default is None or isinstance(default, str)) or not isinstance(tables, dict):
        raise UsageError(f"{path}: default_profile must be a name, and profiles must be tables")
    named = {name: _profile(path, name, table) for name, table in tables.items()}
    return Profiles(path, default, named)


def _profile(path: Path, name: str, table: object) -> Profile:
    prefix = f"{path}: profile {name}"
    if not isinstance(table, dict):
        raise UsageError(f"{prefix}: must be a table [profiles.{name}]")
    known = {field.name: field for field in fields(Profile) if field.name != "name"}
    for key, value in table.items():
        if key in ("api_key", "key", "password", "token"):
            raise UsageError(f"{prefix}: {_ADVICE}")
        if key not in known:
            raise UsageError(f"{prefix}: {key} is not known (known: {', '.join(known)})")
        expected = bool if key in ("tls", "api_key_keyring") else str
        if not isinstance(value, expected):
            raise UsageError(
                f"{prefix}: {key} must be {'true or false' if expected is bool else 'text'}"
            )
    if "address" not in table:
        raise UsageError(f'{prefix}: address must be set, such as "localhost:50051"')
    if table.get("api_key_env") and table.get("api_key_keyring"):
        raise UsageError(f"{prefix}: api_key_env and api_key_keyring cannot both be set")
    files = {
        key: str(path.parent / Path(table[key]).expanduser())
        for key in ("tls_ca", "tls_client_certificate", "tls_client_key")
        if key in table
    }
    return Profile(name, **{**table, **files})
