"""Strangers, and callers of another organization: what they cost a server, and make others wait.

A run of all tests takes a small share of each attack, and looks only at what must not happen
whatever the machine does; `make check-long` takes the whole, and holds it to docs/security.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.proof.attacks import WITH_KEY, WITHOUT_KEY, cost

SAMPLE = 0.02
MOST_MIB, MOST_BEHIND_A_KEY_MIB = 100, 400
LONGEST_WAIT_SECONDS, LONGEST_WAIT_BEHIND_A_KEY_SECONDS = 0.5, 1.0
ATTACKS = {**WITHOUT_KEY, **WITH_KEY}
# In little, these show what the others do.
SAMPLED = (
    "200 of them to reflection",
    "60 calls of Enqueue, 15 MB each, that do not end",
    "60 calls of Health.Check, 15 MB each, that do not end",
)


@pytest.mark.parametrize("name", SAMPLED)
def test_a_little_of_an_attack_costs_a_little(name: str, tmp_path: Path) -> None:
    seen = cost(ATTACKS[name], tmp_path / "jobs.db", SAMPLE * 3)
    assert seen.failed == []
    assert seen.memory_mib < MOST_MIB / 2


@pytest.mark.long
@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_stops_a_server(name: str, tmp_path: Path) -> None:
    seen = cost(ATTACKS[name], tmp_path / "jobs.db")
    print(f"\n{name}: {seen.memory_mib:.0f} MiB, {seen.wait_seconds:.2f} s")
    assert seen.failed == []
    if name in WITHOUT_KEY:
        assert seen.memory_mib < MOST_MIB
        assert seen.wait_seconds < LONGEST_WAIT_SECONDS
    else:
        assert seen.memory_mib < MOST_BEHIND_A_KEY_MIB
        assert seen.wait_seconds < LONGEST_WAIT_BEHIND_A_KEY_SECONDS
