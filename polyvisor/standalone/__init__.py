"""Everything on one machine: the embedded API server, and the process that holds all parts together."""
