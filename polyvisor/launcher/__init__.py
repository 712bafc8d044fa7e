"""The thin process beside libvirt: one a machine, it holds connection, console and the knowledge of how it ended.

It imports the standard library and libvirt, nothing else of Polyvisor, because every megabyte here is paid once a
machine. It is given finished domain XML and a plan (plain data: how to reach libvirt) and knows no hypervisor by name.
It may be killed at any moment: the domain goes on, and the next launcher on the same folder adopts it.
"""
