"""`profiles`: list the servers that the configuration file names."""

from __future__ import annotations

from spooled_pipelines.cli.options import AsJson
from spooled_pipelines.cli.output import print_json, say


def profiles(as_json: AsJson = False) -> None:
    """List the servers that the configuration file names, and where their keys are kept.

    The file is SPOOLED_CONFIG, else ~/.config/spooled-pipelines/config.toml.
    """
    from spooled_pipelines.cli.profiles import load_profiles

    loaded = load_profiles()
    if as_json:
        print_json(
            {
                "path": str(loaded.path),
                "default": loaded.default,
                "profiles": {
                    name: {"address": profile.address, "key": profile.api_key_source}
                    for name, profile in loaded.named.items()
                },
            }
        )
        return
    say(str(loaded.path) if loaded.named else f"no profiles in {loaded.path}")
    for name, profile in loaded.named.items():
        marker = "*" if name == loaded.default else " "
        embedded = profile.address.startswith("embedded:")
        key = "needs no key" if embedded else f"key: {profile.api_key_source}"
        say(f"{marker} {name:<16}{profile.address:<32}{key}")
