"""What tests share: `from tests.support.server_process import ServerProcess` and the like."""
