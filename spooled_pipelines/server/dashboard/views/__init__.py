"""The views: what is answered at each address."""
