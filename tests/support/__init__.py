"""What tests share: `from support.server_process import ServerProcess` and the like."""
