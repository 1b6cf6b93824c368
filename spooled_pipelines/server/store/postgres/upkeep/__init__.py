"""Looking after what is stored: prunings, copies, checks."""
