"""One module a lane: its host, and what is done with it."""
