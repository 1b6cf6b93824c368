"""The log of what an operator asks for first: starts, migrations, drains, prunings, admin acts."""

from __future__ import annotations

import logging

# Its lines are shown at every level of the log but "error": they are few.
operator_log = logging.getLogger("spooled_pipelines.server.operator")
