"""What a machine boots from, made ready before its domain is rendered: disks, seeds, texts, claims and who holds them.

May import ``images``, ``guests`` (for the keys in a seed), ``link`` and ``files``.
"""
