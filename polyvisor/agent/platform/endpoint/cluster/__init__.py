"""The agent of one endpoint as a process of a cluster: its Secret, its identity, a kubelet's interface."""
