"""Where the agent runs: as a kubelet itself (one machine, or a host behind an endpoint), or beside one (a real node).

May import every other room. ``virtual_node`` and ``pruning`` are for a node without a kubelet, ``pod_*`` for one with
a kubelet, ``endpoint`` for hosts that a libvirt connection reaches.
"""
