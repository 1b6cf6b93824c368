"""Ask /readyz of the server in this container; exit with 1 where it is not ready.

In a container with workers, `work … --health-file /tmp/health`, their files are looked at instead.

Over TLS where the server has it. The certificate is not verified, since the way does not leave the
container. Where clients must present one (`tls_client_ca`), give this the variables of a client.
"""

import http.client
import os
import pathlib
import ssl
import sys
import time
import urllib.error
import urllib.request

_PORT = os.environ.get("SPOOLED_SERVER_HTTP", ":8080").rpartition(":")[2]
_SECONDS = 3
_WORKERS = sorted(pathlib.Path(os.environ.get("TMPDIR", "/tmp")).glob("health*"))  # noqa: S108
# Each is written once a second.
_STALE_SECONDS = 60


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate := os.environ.get("SPOOLED_TLS_CLIENT_CERT"):
        context.load_cert_chain(certificate, os.environ.get("SPOOLED_TLS_CLIENT_KEY"))
    return context


def problem_of_workers() -> str | None:
    """Return why one of the workers is not ready; None: all are."""
    for file in _WORKERS:
        said = file.read_text().strip()
        if time.time() - file.stat().st_mtime > _STALE_SECONDS or said != "ready":
            return f"{file}: {said}"
    return None


def problem() -> str | None:
    """Return why the server is not ready; None: it is."""
    # Without the proxies that variables may name.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=_tls())
    )
    found = ""
    for scheme in ("http", "https"):
        url = f"{scheme}://127.0.0.1:{_PORT}/readyz"
        try:
            with opener.open(url, timeout=_SECONDS):
                return None
        except urllib.error.HTTPError as error:
            return f"{error.code} {error.read(1000).decode(errors='replace')}"
        except (OSError, http.client.HTTPException) as error:
            # Such as of a TLS port that is asked without TLS.
            found = f"{found} {url}: {error!r};"
    return found


if __name__ == "__main__":
    sys.exit(problem_of_workers() if _WORKERS else problem())
