"""Write the alerts, the recorded figures and the dashboard: ``python tools/generate_monitoring.py [--check]``.

They are said once, here, and are needed four times: as rules for Prometheus, as a ``PrometheusRule`` for its operator,
as a dashboard for Grafana, and inside the chart. Tests hold every name in them to the figures that there are. No text
here may hold two braces in a row, as Helm would take them for its own.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

TOP = Path(__file__).resolve().parent.parent
MONITORING = TOP / "deploy" / "monitoring"
CHART = TOP / "polyvisor" / "installation" / "chart" / "templates" / "monitoring.yaml"
NOTE = "# Written by tools/generate_monitoring.py; change that.\n"
Obj = dict[str, Any]

ERRORS = 'code=~"5..|<error>"'
RUNNING = 'phase="Running"'
COMPONENTS = ("virt_api", "virt_controller", "virt_handler")
RECORDED = {
    **{
        f"kubevirt_{one}_up": f'sum(up{{pod=~"{one.replace("_", "-")}-.*",job="kubevirt-prometheus-metrics"}})'
        " or vector(0)"
        for one in COMPONENTS
    },
    "kubevirt_virt_controller_ready": "sum(kubevirt_virt_controller_ready_status) or vector(0)",
    "kubevirt_vmi_phase_count": "sum by (node, phase, os, workload, flavor, instance_type, preference, hypervisor)"
    " (kubevirt_vmi_info)",
    "kubevirt_number_of_vms": "sum by (namespace) (count by (name, namespace) (kubevirt_vm_info))",
    "kubevirt_vm_created_total": "sum by (namespace) (kubevirt_vm_created_by_pod_total)",
    "kubevirt_nodes_with_kvm": 'sum(polyvisor_driver_nodes{virt_type="kvm"})',
    "kubevirt_vmi_memory_used_bytes": "kubevirt_vmi_memory_available_bytes - kubevirt_vmi_memory_usable_bytes",
}
"""Name -> expression; names and meaning are KubeVirt's."""

ALERTS = (
    ("VirtAPIDown", "kubevirt_virt_api_up == 0", "10m", "critical", "No virt-api runs: machines cannot be changed."),
    (
        "VirtControllerDown",
        "kubevirt_virt_controller_up == 0",
        "10m",
        "critical",
        "No virt-controller runs: machines are neither started nor stopped.",
    ),
    (
        "NoReadyVirtController",
        "kubevirt_virt_controller_ready == 0",
        "10m",
        "critical",
        "virt-controller runs and is not ready.",
    ),
    (
        "NoLeadingVirtController",
        "(sum(kubevirt_virt_controller_leading_status) or vector(0)) == 0",
        "10m",
        "critical",
        "No virt-controller leads: see its log for what keeps it from the Lease.",
    ),
    (
        "VirtHandlerDown",
        "kubevirt_virt_handler_up == 0",
        "10m",
        "critical",
        "No virt-handler runs: machines go on, and nothing can be done with them.",
    ),
    (
        "VirtHandlerNotReady",
        "kubevirt_virt_handler_ready_status == 0",
        "10m",
        "warning",
        "A node's virt-handler is not ready; its /readyz says what it waits for.",
    ),
    *(
        (
            f"Virt{word}RESTErrorsHigh",
            f'sum(rate(kubevirt_rest_client_requests_total{{pod=~"virt-{word.lower()}-.*",{ERRORS}}}[5m]))'
            f' / sum(rate(kubevirt_rest_client_requests_total{{pod=~"virt-{word.lower()}-.*"}}[5m])) >= 0.05',
            "10m",
            "warning",
            f"More than one in twenty calls of virt-{word.lower()} to the API server fails.",
        )
        for word in ("Controller", "Handler")
    ),
    (
        "KubeVirtNoAvailableNodesToRunVMs",
        "(sum(polyvisor_driver_nodes) or vector(0)) == 0",
        "5m",
        "warning",
        "No node advertises a hypervisor; `polyvisor drivers` says why each is missing.",
    ),
    (
        "VirtualMachineStuckInUnhealthyState",
        'sum by (namespace, name, status) (kubevirt_vm_info{status_group="error"}) > 0',
        "10m",
        "warning",
        "A virtual machine is in a state of error; its conditions and Events say why.",
    ),
    (
        "VirtualMachinesStartSlowly",
        "histogram_quantile(0.95, sum by (le, hypervisor)"
        f" (rate(kubevirt_vmi_phase_transition_time_from_creation_seconds_bucket{{{RUNNING}}}[15m]))) > 120",
        "15m",
        "warning",
        "One machine in twenty takes more than two minutes from its creation to running.",
    ),
    (
        "VMCannotBeEvicted",
        "kubevirt_vmi_non_evictable > 0",
        "1m",
        "warning",
        "A machine asks to be moved when its node is drained and cannot be moved: the drain will wait for it.",
    ),
    (
        "OutdatedVirtualMachineInstanceWorkloads",
        "kubevirt_vmi_number_of_outdated > 0",
        "1d",
        "warning",
        "Machines have run for a day with the launcher of an earlier release.",
    ),
    (
        "PolyvisorWorkIsStuck",
        "max by (name, pod) (kubevirt_workqueue_longest_running_processor_seconds) > 600",
        "1m",
        "warning",
        "A controller has worked on one object for more than ten minutes.",
    ),
    (
        "PolyvisorWorkPilesUp",
        "min_over_time(kubevirt_workqueue_depth[15m]) > 100",
        "1m",
        "warning",
        "More than a hundred objects have waited for a controller for a quarter of an hour.",
    ),
)
"""Name, expression, for how long, severity, and what it means. Names that KubeVirt has mean the same there."""

BY_DRIVER = "sum by (hypervisor)"
PANELS = (
    ("Machines by phase", "short", ("sum by (phase) (kubevirt_vmi_phase_count)",)),
    ("Running machines by hypervisor", "short", (f"{BY_DRIVER} (kubevirt_vmi_info{{{RUNNING}}})",)),
    ("Virtual machines by state", "short", ("count by (status) (kubevirt_vm_info)",)),
    ("Nodes by hypervisor", "short", ("sum by (hypervisor, virt_type) (polyvisor_driver_nodes) > 0",)),
    (
        "From creation to running, 95 of 100",
        "s",
        (
            "histogram_quantile(0.95, sum by (le, hypervisor)"
            f" (rate(kubevirt_vmi_phase_transition_time_from_creation_seconds_bucket{{{RUNNING}}}[$__rate_interval])))",
        ),
    ),
    (
        "CPU of machines",
        "percentunit",
        (f"{BY_DRIVER} (rate(kubevirt_vmi_cpu_usage_seconds_total[$__rate_interval]))",),
    ),
    ("Memory of machines", "bytes", (f"{BY_DRIVER} (kubevirt_vmi_memory_resident_bytes)",)),
    (
        "Network of machines",
        "Bps",
        ("sum by (type) (rate(kubevirt_vmi_network_traffic_bytes_total[$__rate_interval]))",),
    ),
    (
        "Disks of machines",
        "Bps",
        (
            f"{BY_DRIVER} (rate(kubevirt_vmi_storage_read_traffic_bytes_total[$__rate_interval]))",
            f"{BY_DRIVER} (rate(kubevirt_vmi_storage_write_traffic_bytes_total[$__rate_interval]))",
        ),
    ),
    (
        "Open consoles, screens and tunnels",
        "short",
        (
            "sum(kubevirt_console_active_connections)",
            "sum(kubevirt_vnc_active_connections)",
            "sum(kubevirt_portforward_active_tunnels)",
        ),
    ),
    ("Components that are up", "short", tuple(f"kubevirt_{one}_up" for one in COMPONENTS)),
    (
        "Calls to the API server",
        "reqps",
        ("sum by (pod, verb) (rate(kubevirt_rest_client_requests_total[$__rate_interval]))",),
    ),
    ("Objects that wait for a controller", "short", ("sum by (name) (kubevirt_workqueue_depth)",)),
    (
        "Admission reviews",
        "reqps",
        ("sum by (webhook, allowed) (rate(polyvisor_admission_reviews_total[$__rate_interval]))",),
    ),
)
"""Title, Grafana's unit, and expressions."""


def groups() -> Obj:
    """Return the rules as Prometheus reads them."""
    recorded = [{"record": name, "expr": expression} for name, expression in RECORDED.items()]
    alerts = [
        {
            "alert": name,
            "expr": expression,
            "for": how_long,
            "labels": {"severity": severity, "kubernetes_operator_part_of": "polyvisor"},
            "annotations": {"summary": meaning},
        }
        for name, expression, how_long, severity, meaning in ALERTS
    ]
    return {
        "groups": [{"name": "polyvisor.recorded", "rules": recorded}, {"name": "polyvisor.alerts", "rules": alerts}]
    }


def dashboard() -> Obj:
    """Return the dashboard as Grafana reads it."""
    source = {"type": "prometheus", "uid": "${source}"}
    panels = []
    for number, (title, unit, expressions) in enumerate(PANELS):
        panels.append(
            {
                "id": number + 1,
                "type": "timeseries",
                "title": title,
                "datasource": source,
                "gridPos": {"x": number % 2 * 12, "y": number // 2 * 8, "w": 12, "h": 8},
                "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                "targets": [
                    {"refId": chr(65 + place), "datasource": source, "expr": expression, "legendFormat": "__auto"}
                    for place, expression in enumerate(expressions)
                ],
            }
        )
    variable = {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}
    return {
        "uid": "polyvisor",
        "title": "Polyvisor",
        "tags": ["polyvisor", "kubevirt"],
        "schemaVersion": 39,
        "time": {"from": "now-3h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [variable]},
        "panels": panels,
    }


def operator_objects(namespace: str) -> list[Obj]:
    """Return what the Prometheus operator and Grafana's side car look for."""

    def of(
        api_version: str,
        kind: str,
        name: str,
        labels: Obj,
        annotations: Obj | None = None,
        everywhere: bool = False,
        **more: Any,
    ) -> Obj:
        metadata: Obj = {"name": name, **({} if everywhere else {"namespace": namespace}), "labels": labels}
        metadata |= {"annotations": annotations} if annotations else {}
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **more}

    ours = {"app.kubernetes.io/part-of": "polyvisor"}
    reader = "polyvisor-metrics-reader"
    endpoint = {
        "port": "metrics",
        "scheme": "https",
        "tlsConfig": {"insecureSkipVerify": True},
        "authorization": {"credentials": {"name": reader, "key": "token"}},
        "honorLabels": True,
        "interval": "30s",
    }
    text = json.dumps(dashboard(), separators=(",", ":"))
    rules = [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]
    roles = "rbac.authorization.k8s.io"
    return [
        # A token that can read figures and nothing else, as Prometheus does not check who the other end is: components
        # show certificates of their own making.
        of("v1", "ServiceAccount", reader, ours, automountServiceAccountToken=False),
        of(
            "v1",
            "Secret",
            reader,
            ours,
            annotations={"kubernetes.io/service-account.name": reader},
            type="kubernetes.io/service-account-token",
        ),
        of(f"{roles}/v1", "ClusterRole", reader, ours, everywhere=True, rules=rules),
        of(
            f"{roles}/v1",
            "ClusterRoleBinding",
            reader,
            ours,
            everywhere=True,
            roleRef={"apiGroup": roles, "kind": "ClusterRole", "name": reader},
            subjects=[{"kind": "ServiceAccount", "name": reader, "namespace": namespace}],
        ),
        of(
            "monitoring.coreos.com/v1",
            "ServiceMonitor",
            "polyvisor",
            ours,
            spec={"selector": {"matchLabels": {"prometheus.kubevirt.io": "true"}}, "endpoints": [endpoint]},
        ),
        of("monitoring.coreos.com/v1", "PrometheusRule", "polyvisor", ours, spec=groups()),
        of("v1", "ConfigMap", "polyvisor-dashboard", {**ours, "grafana_dashboard": "1"}, data={"polyvisor.json": text}),
    ]


def _yaml(*objects: Obj) -> str:
    return yaml.safe_dump_all(objects, sort_keys=False, width=110, allow_unicode=True)


def files() -> dict[Path, str]:
    """Return every file and its text."""
    chart = _yaml(*operator_objects("NAMESPACE")).replace("NAMESPACE", "{{ .Release.Namespace }}")
    return {
        MONITORING / "rules.yaml": NOTE + _yaml(groups()),
        MONITORING / "operator.yaml": NOTE + _yaml(*operator_objects("kubevirt")),
        MONITORING / "dashboard.json": json.dumps(dashboard(), indent=2) + "\n",
        CHART: "{{- if .Values.monitoring.enabled }}\n" + NOTE + chart + "{{- end }}\n",
    }


def main() -> int:
    """Write the files, or with ``--check`` say which are out of step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of step")
    check = parser.parse_args().check
    stale = [path for path, text in files().items() if not path.exists() or path.read_text() != text]
    if check and stale:
        sys.stderr.write(f"{', '.join(path.name for path in stale)}: out of step; run {Path(__file__).name}\n")
        return 1
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(files()[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
