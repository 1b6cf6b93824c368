"""What each RPC does. A method is named like its RPC, in snake case; `handlers` finds it."""
