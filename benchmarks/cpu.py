"""CPU time of servers and of PostgreSQL, which says more than the clock on a busy machine."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import psutil
import psycopg


class Used(NamedTuple):
    """CPU seconds so far of each server and of PostgreSQL, and transactions that wrote."""

    servers: tuple[float, ...]
    database: float
    transactions: int

    def since(self, before: Used) -> Used:
        """Return what was used after `before`."""
        servers = zip(self.servers, before.servers, strict=True)
        return Used(
            tuple(after - earlier for after, earlier in servers),
            self.database - before.database,
            self.transactions - before.transactions,
        )


def used(url: str, addresses: list[str]) -> Used:
    """Return what was used so far; of PostgreSQL with all its children."""
    servers = tuple(sum(one.cpu_times()[:2]) for one in server_processes(addresses))
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT pg_backend_pid(), pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        ).fetchone()
        assert row is not None
        postmaster = psutil.Process(row[0]).parent()
    assert postmaster is not None
    database = 0.0
    for process in (postmaster, *postmaster.children(recursive=True)):
        # One that has ended since, such as an autovacuum, counts below.
        with contextlib.suppress(psutil.NoSuchProcess):
            database += sum(process.cpu_times()[:2])
    # user, system, and both of the children that have ended.
    return Used(servers, database + sum(postmaster.cpu_times()[2:4]), int(row[1]))


def server_processes(addresses: list[str]) -> list[psutil.Process]:
    """Return the processes that listen there, in the order of the addresses."""
    by_port = {
        one.laddr.port: process
        for process in psutil.Process().children(recursive=True)
        for one in process.net_connections("tcp")
        if one.status == psutil.CONN_LISTEN
    }
    return [by_port[int(address.rpartition(":")[2])] for address in addresses]
