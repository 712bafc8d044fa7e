"""What every process of Polyvisor's own needs to live in a cluster: a log, a TLS server, certificates, health, an end.

Nothing here knows what the process is for.
"""
