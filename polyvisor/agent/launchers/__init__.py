"""The launchers of this node: which Pod is one, its process, how it is confined, and what its image can do.

May import ``network``, ``link`` and ``files``.
"""
