"""The page: what the server does, for people, over HTTP. An extra of its own, loaded when used."""
