"""What guests say of themselves through their agents, and what is asked of them: facts, checks, keys and passwords.

May import ``link`` and ``files``.
"""
