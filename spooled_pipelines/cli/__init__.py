"""The command line: `spooled-pipelines COMMAND`."""
