"""The dashboard: what the server does, for people, over HTTP. An extra, loaded when it is used."""

from spooled_pipelines.server.dashboard.app import AppContext
from spooled_pipelines.server.dashboard.http_server import DashboardServer

__all__ = ["AppContext", "DashboardServer"]
