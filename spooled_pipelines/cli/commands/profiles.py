"""`profiles`: the servers that the configuration file names."""

from __future__ import annotations

from spooled_pipelines.cli.options import AsJson
from spooled_pipelines.cli.output import print_json


def profiles(as_json: AsJson = False) -> None:
    """The servers that the configuration file names, and where their keys are; never a key.

    The file is SPOOLED_CONFIG, else ~/.config/spooled-pipelines/config.toml.
    """
    from spooled_pipelines.cli.profiles import load_profiles

    found = load_profiles()
    if as_json:
        print_json(
            {
                "path": str(found.path),
                "default": found.default,
                "profiles": {
                    name: {"address": named.address, "key": named.key_place}
                    for name, named in found.named.items()
                },
            }
        )
        return
    print(found.path if found.named else f"no profiles in {found.path}")
    for name, named in found.named.items():
        sign = "*" if name == found.default else " "
        embedded = named.address.startswith("embedded:")
        key = "needs no key" if embedded else f"key: {named.key_place}"
        print(f"{sign} {name:<16}{named.address:<32}{key}")
