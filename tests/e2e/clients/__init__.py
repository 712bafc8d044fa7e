"""Clients that others wrote, against a standalone installation: a lane of its own (``make clients``)."""
