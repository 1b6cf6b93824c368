"""The loops beside the calls."""

from spooled_pipelines.server.maintenance.api_key_refresher import ApiKeyRefresher
from spooled_pipelines.server.maintenance.audit_writer import AuditWriter
from spooled_pipelines.server.maintenance.sweeper import Sweeper

__all__ = ["ApiKeyRefresher", "AuditWriter", "Sweeper"]
