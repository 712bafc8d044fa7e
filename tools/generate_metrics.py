"""Write ``docs/metrics.md`` from the list of figures: ``python tools/generate_metrics.py [--check]``."""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

from pages import write_page

from polyvisor.api.figures import FIGURES, Figure

PATH = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
HEAD = """<!-- Written by tools/generate_metrics.py from polyvisor/api/figures.py. -->
<!-- Change those. -->
# Metrics

Each process serves its figures to Prometheus as `/metrics` by TLS on port 8443, beside `/livez` and `/readyz`. Whoever
shows a token (`Authorization: Bearer TOKEN`) of a user with the right to `get` the path `/metrics` sees all of them:
the process asks the API server (TokenReview, SubjectAccessReview). Without a token an answer has only figures that name
neither machine nor namespace. A NetworkPolicy lets Pods of Polyvisor's namespace and of namespaces with the label
`prometheus.kubevirt.io: "true"` reach the port; virt-api's is open, as the API server has to reach it. Certificates are
the processes' own, so a scraper cannot check them: the chart gives Prometheus a token that has no other right.

```sh
kubectl label namespace monitoring prometheus.kubevirt.io=true
```

`polyvisor up` serves those of all parts from its API server, to whoever may ask it:

```sh
curl --cacert CA -H "Authorization: Bearer TOKEN" https://127.0.0.1:7443/metrics
```

`kubectl get --raw /metrics` with Polyvisor's kubeconfig does the same without naming either.

Names and units are KubeVirt's, so that dashboards and alerts made for it go on working; what KubeVirt does not have
begins with `polyvisor_`. What is different: figures of machines carry the label `hypervisor` with the driver's name;
`kubevirt_vm_*_timestamp_seconds` are gauges, as what they hold can fall; and figures of migrations, snapshots, pools
and GPUs are missing. What a machine uses (`kubevirt_vmi_cpu_*`, `_memory_*`, `_network_*`,
`_storage_*`, `_vcpu_*`) is asked of libvirt when Prometheus asks, for the drivers that have `lifecycle.statistics` in
the [feature matrix](feature-matrix.md); a figure that a driver does not know has no sample.

## Alerts, recorded figures and a dashboard

[deploy/monitoring](../deploy/monitoring) has rules for Prometheus, as a plain file and as a `PrometheusRule`, and a
dashboard for Grafana. The chart installs them, with a `ServiceMonitor`, where the Prometheus operator is:

```shell
polyvisor install --set monitoring.enabled=true
```

Among the recorded figures are those that KubeVirt's dashboards use: `kubevirt_vmi_phase_count`,
`kubevirt_number_of_vms`, `kubevirt_vm_created_total`, `kubevirt_vmi_memory_used_bytes`, and for each component
`kubevirt_virt_*_up`.
"""
TITLES = {
    "all": "Every process",
    "virt-controller": "virt-controller",
    "virt-operator": "virt-operator",
    "virt-api": "virt-api",
    "virt-handler": "virt-handler, of the machines on its node",
}


def generate() -> str:
    """Return the page."""
    parts = [HEAD]
    for process, figures in groupby(FIGURES, key=lambda figure: figure.process):
        parts.append(f"## {TITLES[process]}\n")
        parts += ["| name | kind | labels | |", "| --- | --- | --- | --- |", *map(_row, figures), ""]
    return "\n".join(parts).rstrip() + "\n"


def _row(figure: Figure) -> str:
    labels = ", ".join(f"`{label}`" for label in figure.labels)
    return f"| `{figure.name}` | {figure.kind} | {labels} | {figure.help} |"


def main() -> int:
    """Write the page, or with ``--check`` say that it is out of step."""
    return write_page(PATH, generate, __doc__)


if __name__ == "__main__":
    sys.exit(main())
