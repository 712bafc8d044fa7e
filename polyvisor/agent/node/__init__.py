"""This machine as a Node: what works on it, its Lease, devices, CPUs, huge pages and ranges of ids.

May import ``launchers``, ``images``, ``link`` and ``files``.
"""
