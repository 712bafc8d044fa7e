"""Polyvisor: virtual machines on Kubernetes through libvirt, where each machine chooses its hypervisor.

This package module stays empty of imports: the launcher is started with it, and may load the standard
library and libvirt only.
"""

__version__ = "0.1.0"
