"""The node agent: what a node can run, and the machines that it runs."""
