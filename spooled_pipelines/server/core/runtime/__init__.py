"""What a server runs on: its clock, services and loops, and who is told of commits."""
