"""Files and the programs that make them: paths that others can write to, mounts, owners, logs.

Imports of the agent only its errors. Whatever opens a path that a guest, a launcher or a user can change goes through
``safepath``.
"""
