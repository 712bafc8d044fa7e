"""What users of a cluster get: machines in launcher Pods on a real node, beside two floors, or beside another system.

The system that is measured is only known by its API (``kubevirt.io/v1``), its namespace, and its processes, which are
found by their Pods' control groups. So the same code measures Polyvisor, in a cluster that it brings up, and any other
KubeVirt-compatible system, in a cluster that is handed to it by kubeconfig and whose node is this machine.
"""

from __future__ import annotations

from bench.cluster.measure import STEPS, Figures, Kept, measure, measure_own
from bench.cluster.tables import section, show

__all__ = ["STEPS", "Figures", "Kept", "measure", "measure_own", "section", "show"]
