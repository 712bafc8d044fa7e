"""DataVolumes where there is no CDI: sources fetched, copied or uploaded into claims.

May import ``storage``, ``images`` and ``files``, and asks ``node`` for its labels.
"""
