"""The embedded server: every RPC of the wire over a store of jobs.

Layers, each knowing only the ones below it:

    run, embedded          start and stop it
    handlers               one wrapper around every RPC: key, rate, errors
    services/              what each RPC does
    wakeups, timer         who waits for what, and when something is due
    store                  the interface of a store; sqlite/ is one
"""
