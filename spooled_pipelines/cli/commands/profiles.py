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
    # A file needs no key.
    keys = {
        name: None if profile.address.startswith("embedded:") else profile.api_key_source
        for name, profile in loaded.named.items()
    }
    if as_json:
        print_json(
            {
                "path": str(loaded.path),
                "default": loaded.default,
                "profiles": {
                    name: {"address": profile.address, "key": keys[name]}
                    for name, profile in loaded.named.items()
                },
            }
        )
        return
    say(str(loaded.path) if loaded.named else f"no profiles in {loaded.path}")
    for name, profile in loaded.named.items():
        marker = "*" if name == loaded.default else " "
        key = f"key: {keys[name]}" if keys[name] else "needs no key"
        say(f"{marker} {name:<16}{profile.address:<32}{key}")
