"""Errors on the shell: one line on standard error, and no traceback."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap

from spooled_pipelines.cli.output import say
from spooled_pipelines.errors import RowsRejectedError, SpooledError

# What to do, by an error's reason, in options of commands instead of arguments of functions.
HINTS = {
    "no_api_key": "Set SPOOLED_API_KEY, or give --api-key (--address embedded:PATH needs neither "
    "server nor key).",
    "lossy_value": "Change the column, or give --on-lossy string to send such values as text, or "
    "--on-lossy null to leave them out.",
    "rows_rejected": "--ledger FILE lists all of them. Correct them, or give --on-rejected skip to "
    "enqueue the others.",
    "changed": "--ledger FILE lists all of them. Give --on-changed replace, which gives jobs that "
    "have not started the new payload, or --on-changed keep to leave all as they are.",
    "no_such_host": "Check the name, and the DNS of this network.",
    "tls_handshake": "The server may require a client certificate; if it is meant to be without "
    "TLS, set tls = false in the profile.",
    "not_grpc": "Check the port, and that no proxy on the way speaks HTTP/1.1 only.",
    "server_without_tls": "Set tls = false in the profile.",
    "client_without_tls": "Set tls = true in the profile.",
    "tls_name": "Use the name in the certificate as the address, or set tls_server_name in the "
    "profile.",
    "tls_untrusted": "Name the authority that signed it as tls_ca in the profile.",
    "tls_client_certificate": "Set tls_client_certificate and tls_client_key in the profile.",
}

# How arguments of functions that a message names are given here.
_AS_OPTIONS = (
    (re.compile(r"\b(separator|encoding)=(?=')"), r"--\1 "),
    (re.compile(r"\btypes=\{'(.*?)': '(\w+)'\}"), r"--type '\1=\2'"),
    (re.compile(r"\bthe api_key argument\b"), "--api-key"),
    (re.compile(r"\bcolumn_names=\[\.\.\.\]"), "--column-name NAME, once for each"),
)


def print_error(message: str) -> None:
    """Print one line on standard error, which a terminal gets without a cut within a word."""
    text = "spooled-pipelines: " + " ".join(message.split())
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        text = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
    say(text, file=sys.stderr)


def describe(error: SpooledError) -> str:
    """Return what is wrong and what to do, with the first rejected rows if it is about rows."""
    hint = HINTS.get(error.reason or "", error.hint) if error.hint else ""
    message = f"{error.problem} {hint}".rstrip()
    for argument, option in _AS_OPTIONS:
        message = argument.sub(option, message)
    if isinstance(error, RowsRejectedError) and error.examples:
        rows = "; ".join(f"row {example.row}: {example.reason}" for example in error.examples[:3])
        message = f"{message} First: {rows}"
    return message


def describe_os_error(error: OSError) -> str:
    """Return such as `reports/x.parquet: No such file or directory`, without an error number."""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{os.fspath(error.filename)!s}: {reason}" if error.filename else reason
