"""python -m spooled_pipelines.server: a server without the command line's extras."""

from __future__ import annotations

import argparse
import sys

from spooled_pipelines.server.config.settings import OrganizationKey, ServerSettings
from spooled_pipelines.server.core.errors import StoreUnavailableError
from spooled_pipelines.server.core.retention import retention_of
from spooled_pipelines.server.serve import run
from spooled_pipelines.server.telemetry.logs import FORMATS, LEVELS, configure_logging


def main() -> int:
    """Serve until a signal comes; prints `page at URL`, if so, and `listening on HOST:PORT`."""
    parser = argparse.ArgumentParser(prog="python -m spooled_pipelines.server")
    parser.add_argument("--listen", default="127.0.0.1:50051", metavar="HOST:PORT")
    parser.add_argument("--store", default="sqlite:///spooled.db", metavar="URL")
    parser.add_argument("--api-key", action="append", default=[], metavar="KEY")
    parser.add_argument(
        "--organization-key", action="append", default=[], nargs=2, metavar=("ORGANIZATION", "KEY")
    )
    parser.add_argument("--rate-limit", type=float, metavar="N")
    parser.add_argument("--daily-quota", type=int, metavar="N")
    parser.add_argument("--require-lease-id", action="store_true")
    parser.add_argument("--no-batch-extension", action="store_true")
    parser.add_argument("--keep-settled", metavar="DURATION")
    parser.add_argument("--keep-keys", metavar="DURATION")
    parser.add_argument("--keep-batches", metavar="DURATION")
    parser.add_argument("--keep-dead-letters", metavar="DURATION")
    parser.add_argument("--metrics", metavar="HOST:PORT")
    parser.add_argument("--http", metavar="HOST:PORT")
    parser.add_argument("--http-frame-ancestors", action="append", default=[], metavar="ORIGIN")
    parser.add_argument("--log-format", default="text", choices=FORMATS)
    parser.add_argument("--log-level", default="warning", choices=LEVELS)
    parser.add_argument("--grace-seconds", type=float, default=5.0, metavar="S")
    parser.add_argument("--tls-cert", metavar="PATH")
    parser.add_argument("--tls-key", metavar="PATH")
    parser.add_argument("--tls-client-ca", metavar="PATH")
    options = parser.parse_args()
    others = [OrganizationKey(*entry) for entry in options.organization_key]
    try:
        configure_logging(options.log_format, options.log_level)
        settings = ServerSettings(
            listen=options.listen,
            store=options.store,
            api_keys=(*options.api_key, *others),
            tls_cert=options.tls_cert,
            tls_key=options.tls_key,
            tls_client_ca=options.tls_client_ca,
            rate_limit=options.rate_limit,
            daily_quota=options.daily_quota,
            require_lease_id=options.require_lease_id,
            batch_extension=not options.no_batch_extension,
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
        run(
            settings,
            ready=lambda address: print(f"listening on {address}", flush=True),
            page_ready=lambda url: print(f"page at {url}", flush=True),
        )
    except (OSError, StoreUnavailableError, ValueError) as error:
        print(f"cannot serve: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
