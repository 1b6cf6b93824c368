"""Messages of proto/spooled/v1/spooled.proto (typed by the .pyi beside this file)."""

from spooled_pipelines.wire.pool import names_of_file

globals().update(names_of_file("spooled/v1/spooled.proto"))
