"""Messages of proto/spooled_pipelines/v1/keys.proto (typed by the .pyi beside this file)."""

from spooled_pipelines.wire.pool import names_of_file

globals().update(names_of_file("spooled_pipelines/v1/keys.proto"))
