"""The server: every RPC of the wire over a store of jobs.

Its rooms, each of which knows only those below it:

    embedded/, serve         servers inside another process, and a process of its own
    server                   what a server consists of, and how it starts and stops
    dashboard/               the page for people
    services/ rpc/           what each RPC does; the interceptor around all of them
    maintenance/             the loops beside the calls
    auth/ telemetry/         who calls and what the caller may do; metrics, traces, logs
    store/                   JobStore, the interface; sqlite/ and postgres/ implement it
    config/                  the settings, and where they come from
    core/                    rules without I/O
"""
