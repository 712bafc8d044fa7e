"""The launcher of an endpoint: one process that holds one libvirt connection to a host, for all domains there.

``python -m polyvisor.launcher.endpoint FOLDER`` speaks with the agent over the socket that is its standard input, one
JSON object a line, and ends when the agent lets go of it. The domains do not depend on it: they run on their host. It
is given the connection's secrets over that socket; what programs need as files is in FOLDER, which is its own, while
the connection is opened.
It imports the standard library and libvirt, nothing else.
"""
