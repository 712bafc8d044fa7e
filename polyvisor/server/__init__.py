"""What a cluster's API server hands over to Polyvisor: the subresource API (console, start, stop, pause, ...)."""
