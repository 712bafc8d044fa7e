"""The connection to a launcher, and what comes over it: messages, descriptors, pictures, streams; who is at its end.

May import ``files``. A launcher is not trusted: limits on length, nesting and time stand here.
"""
