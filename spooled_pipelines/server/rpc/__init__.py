"""gRPC: the interceptor, health, TLS and channel options."""

from spooled_pipelines.server.rpc.connections import ConnectionGuard
from spooled_pipelines.server.rpc.grpc_options import server_options
from spooled_pipelines.server.rpc.handlers import UnknownCalls, build_handlers
from spooled_pipelines.server.rpc.health import add_standard_services
from spooled_pipelines.server.rpc.in_process import InProcessClient
from spooled_pipelines.server.rpc.interceptor import Interceptor
from spooled_pipelines.server.rpc.tls import CertificateFiles, Certificates, HttpCertificates

__all__ = [
    "CertificateFiles",
    "Certificates",
    "ConnectionGuard",
    "HttpCertificates",
    "InProcessClient",
    "Interceptor",
    "UnknownCalls",
    "add_standard_services",
    "build_handlers",
    "server_options",
]
