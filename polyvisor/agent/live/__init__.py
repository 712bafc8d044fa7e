"""A running machine: its domain, its status, and what comes, goes and changes while it runs.

May import ``node``, ``launchers``, ``network``, ``storage``, ``guests`` and what these may.
"""
