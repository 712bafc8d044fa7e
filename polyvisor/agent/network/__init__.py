"""Networks of machines: what is set up inside the network namespace of a Pod, so that its launcher needs no privilege.

A launcher's Pod has a network namespace: on a kubelet's node the container runtime made it, on a virtual node with
:mod:`.bridged` networks this agent did. Inside it the agent, who is root, puts a bridge and a tap device that belongs
to the launcher's user for each card (:mod:`.plan`), rules that translate addresses (:mod:`.rules`) and a DHCP server
(:mod:`.dhcp`). All of it goes with the namespace. Every step looks first and may be repeated.
"""
