"""Disk and container images that others made: fetched, looked at, unpacked, kept by digest.

May import ``files``. Nothing in an image is believed before ``examining`` has looked at it.
"""
