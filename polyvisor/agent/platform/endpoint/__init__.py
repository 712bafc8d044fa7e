"""The agent of endpoints: hosts without a kubelet that a libvirt connection reaches.

For each HypervisorEndpoint one launcher process holds the connection, and one task here looks after it: it observes
(object, Secret, host), plans the status from that (:mod:`.plan`, without side effects) and writes it. A host that
cannot be reached is a state with a beginning and no error; nothing is concluded from it about its domains.
"""
