"""Every figure that Polyvisor's processes serve to Prometheus: the one list from which all else is made.

The processes take name, help and labels from here, docs/metrics.md is written from it, and the dashboard and the alerts
are held to it by tests. Names are KubeVirt's where KubeVirt has the figure; ours begin with ``polyvisor_``. As with
KubeVirt a machine's figures are labelled with ``node``, ``namespace`` and ``name``; ``hypervisor`` is our addition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["gauge", "counter", "histogram"]
CONTROLLER, OPERATOR, HANDLER, API, ALL = "virt-controller", "virt-operator", "virt-handler", "virt-api", "all"
MACHINE = ("node", "namespace", "name", "hypervisor")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: what it is called, what it tells, and which process serves it."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    process: str

    @property
    def ours(self) -> bool:
        """Whether KubeVirt has no such figure."""
        return self.name.startswith("polyvisor_")


def _of(process: str, kind: Kind, name: str, help: str, *labels: str) -> Figure:
    return Figure(name, kind, help, labels, process)


_VM = ("namespace", "name")
_USAGE: tuple[tuple[Kind, str, str, tuple[str, ...]], ...] = (
    ("counter", "cpu_usage_seconds_total", "CPU time of the whole domain.", ()),
    ("counter", "cpu_user_usage_seconds_total", "CPU time of it in user mode.", ()),
    ("counter", "cpu_system_usage_seconds_total", "CPU time of it in the kernel.", ()),
    ("counter", "vcpu_seconds_total", "Time of a virtual CPU, by its state.", ("id", "state")),
    ("counter", "vcpu_wait_seconds_total", "Time that a virtual CPU waited for I/O.", ("id",)),
    ("counter", "vcpu_delay_seconds_total", "Time that a virtual CPU waited for a real one.", ("id",)),
    ("gauge", "memory_domain_bytes", "Memory that the guest was given at its start.", ()),
    ("gauge", "memory_actual_balloon_bytes", "Memory that the balloon leaves to the guest.", ()),
    ("gauge", "memory_available_bytes", "Memory that the guest sees.", ()),
    ("gauge", "memory_unused_bytes", "Memory that the guest uses for nothing.", ()),
    ("gauge", "memory_usable_bytes", "Memory that the guest could use without swapping.", ()),
    ("gauge", "memory_cached_bytes", "Memory of the guest that caches disks.", ()),
    ("gauge", "memory_resident_bytes", "Memory of the host that the domain occupies.", ()),
    ("gauge", "memory_swap_in_traffic_bytes", "What the guest has read from its swap space.", ()),
    ("gauge", "memory_swap_out_traffic_bytes", "What the guest has written to its swap space.", ()),
    ("counter", "memory_pgmajfault_total", "Page faults of the guest that needed a disk.", ()),
    ("counter", "memory_pgminfault_total", "Page faults of the guest that needed none.", ()),
    ("counter", "network_receive_bytes_total", "Bytes that the guest received.", ("interface",)),
    ("counter", "network_receive_packets_total", "Packets that the guest received.", ("interface",)),
    ("counter", "network_receive_errors_total", "Errors on the way to the guest.", ("interface",)),
    ("counter", "network_receive_packets_dropped_total", "Packets lost on that way.", ("interface",)),
    ("counter", "network_transmit_bytes_total", "Bytes that the guest sent.", ("interface",)),
    ("counter", "network_transmit_packets_total", "Packets that the guest sent.", ("interface",)),
    ("counter", "network_transmit_errors_total", "Errors on the way from the guest.", ("interface",)),
    ("counter", "network_transmit_packets_dropped_total", "Packets lost on that way.", ("interface",)),
    ("counter", "network_traffic_bytes_total", "Bytes both ways.", ("interface", "type")),
    ("counter", "storage_iops_read_total", "Reads.", ("drive",)),
    ("counter", "storage_iops_write_total", "Writes.", ("drive",)),
    ("counter", "storage_read_traffic_bytes_total", "Bytes read.", ("drive",)),
    ("counter", "storage_write_traffic_bytes_total", "Bytes written.", ("drive",)),
    ("counter", "storage_read_times_seconds_total", "Time that reads took.", ("drive",)),
    ("counter", "storage_write_times_seconds_total", "Time that writes took.", ("drive",)),
    ("counter", "storage_flush_requests_total", "Flushes.", ("drive",)),
    ("counter", "storage_flush_times_seconds_total", "Time that flushes took.", ("drive",)),
)
"""What a machine uses: kind, name without its beginning, help, further labels."""
_ABOUT = ("os", "workload", "flavor", "instance_type", "preference")
_SINCE = "When a virtual machine last came to be in a state of this group, in seconds since the epoch."

FIGURES: tuple[Figure, ...] = (
    _of(ALL, "gauge", "kubevirt_info", "The version that runs.", "version", "kubeversion"),
    _of(ALL, "counter", "kubevirt_rest_client_requests_total", "Calls to the API server.", "verb", "resource", "code"),
    _of(
        ALL,
        "histogram",
        "kubevirt_rest_client_request_latency_seconds",
        "How long calls to the API server took, watches left out.",
        "verb",
        "resource",
    ),
    _of(ALL, "counter", "kubevirt_workqueue_adds_total", "Keys that were queued for work.", "name"),
    _of(ALL, "gauge", "kubevirt_workqueue_depth", "Keys that wait for a worker.", "name"),
    _of(ALL, "histogram", "kubevirt_workqueue_queue_duration_seconds", "How long keys waited for a worker.", "name"),
    _of(ALL, "histogram", "kubevirt_workqueue_work_duration_seconds", "How long the work on a key took.", "name"),
    _of(ALL, "counter", "kubevirt_workqueue_retries_total", "Keys that were put back after a failure.", "name"),
    _of(ALL, "gauge", "kubevirt_workqueue_unfinished_work_seconds", "Seconds of work that is under way.", "name"),
    _of(ALL, "gauge", "kubevirt_workqueue_longest_running_processor_seconds", "Age of the longest of it.", "name"),
    # virt-controller
    _of(CONTROLLER, "gauge", "kubevirt_virt_controller_leading_status", "Whether this process leads."),
    _of(CONTROLLER, "gauge", "kubevirt_virt_controller_ready_status", "Whether this process is ready."),
    _of(
        CONTROLLER,
        "gauge",
        "kubevirt_configuration_emulation_enabled",
        "Whether the configuration allows CPUs that are emulated in software.",
    ),
    _of(
        CONTROLLER,
        "gauge",
        "kubevirt_vmi_info",
        "A running machine and what it runs on; always 1.",
        *MACHINE,
        "virt_type",
        "phase",
        *_ABOUT,
        "guest_os_kernel_release",
        "guest_os_machine",
        "guest_os_name",
        "guest_os_version_id",
        "evictable",
        "outdated",
    ),
    _of(
        CONTROLLER,
        "gauge",
        "kubevirt_vm_info",
        "A virtual machine and its state in a word; always 1.",
        *_VM,
        *_ABOUT,
        "machine_type",
        "status",
        "status_group",
        "run_strategy",
    ),
    _of(CONTROLLER, "gauge", "kubevirt_vm_create_date_timestamp_seconds", "When a virtual machine was made.", *_VM),
    *(
        _of(CONTROLLER, "gauge", f"kubevirt_vm_{group}_status_last_transition_timestamp_seconds", _SINCE, *_VM)
        for group in ("starting", "running", "migrating", "non_running", "error")
    ),
    *(
        _of(
            CONTROLLER,
            "gauge",
            f"kubevirt_vm_resource_{what}",
            f"The {what} that a virtual machine's template makes, in cores or bytes.",
            *_VM,
            "resource",
            "unit",
            "source",
        )
        for what in ("requests", "limits")
    ),
    _of(
        CONTROLLER,
        "gauge",
        "kubevirt_vm_vnic_info",
        "A network interface of a virtual machine; always 1.",
        *_VM,
        "vnic_name",
        "binding_type",
        "binding_name",
        "network",
        "model",
    ),
    _of(
        CONTROLLER,
        "gauge",
        "kubevirt_vmi_vnic_info",
        "A network interface of a running machine; always 1.",
        "namespace",
        "name",
        "vnic_name",
        "binding_type",
        "binding_name",
        "network",
        "model",
    ),
    _of(
        CONTROLLER,
        "gauge",
        "kubevirt_vmi_status_addresses",
        "An address of a running machine; always 1.",
        *MACHINE,
        "network_name",
        "address",
        "type",
    ),
    _of(
        CONTROLLER,
        "gauge",
        "kubevirt_vmi_launcher_memory_overhead_bytes",
        "What the launcher needs beside the guest's memory, by the driver's estimate.",
        "namespace",
        "name",
        "hypervisor",
    ),
    _of(
        CONTROLLER,
        "gauge",
        "kubevirt_vmi_non_evictable",
        "Whether a running machine asks to be moved on eviction and cannot be.",
        *MACHINE,
    ),
    _of(CONTROLLER, "gauge", "kubevirt_vmi_number_of_outdated", "Running machines with a launcher of another release."),
    _of(
        CONTROLLER,
        "histogram",
        "kubevirt_vmi_phase_transition_time_from_creation_seconds",
        "From the creation of a machine to its reaching a phase.",
        "phase",
        "hypervisor",
    ),
    _of(
        CONTROLLER,
        "histogram",
        "kubevirt_vmi_phase_transition_time_from_deletion_seconds",
        "From the deletion of a machine to its reaching a phase.",
        "phase",
        "hypervisor",
    ),
    _of(
        CONTROLLER,
        "histogram",
        "kubevirt_vmi_phase_transition_time_seconds",
        "From one phase of a machine to the next.",
        "phase",
        "last_phase",
        "hypervisor",
    ),
    _of(
        CONTROLLER,
        "gauge",
        "polyvisor_driver_nodes",
        "Nodes that advertise a hypervisor driver, by the type of domain that works there.",
        "hypervisor",
        "virt_type",
    ),
    # virt-operator
    _of(OPERATOR, "gauge", "kubevirt_virt_operator_leading_status", "Whether this process leads."),
    _of(OPERATOR, "gauge", "kubevirt_virt_operator_ready_status", "Whether this process is ready."),
    # virt-api
    _of(API, "gauge", "kubevirt_virt_api_ready_status", "Whether this process is ready."),
    _of(API, "gauge", "kubevirt_console_active_connections", "Open serial consoles.", *_VM),
    _of(API, "gauge", "kubevirt_vnc_active_connections", "Open screens.", *_VM),
    _of(API, "gauge", "kubevirt_portforward_active_tunnels", "Open tunnels to ports of guests.", *_VM),
    _of(API, "gauge", "kubevirt_usbredir_active_connections", "USB devices that clients have brought.", *_VM),
    _of(
        API,
        "gauge",
        "kubevirt_vmi_last_api_connection_timestamp_seconds",
        "When a console, screen or port of a machine was last opened, in seconds since the epoch.",
        *_VM,
    ),
    _of(
        API,
        "counter",
        "kubevirt_vm_created_by_pod_total",
        "Virtual machines whose creation this process admitted.",
        "namespace",
    ),
    _of(API, "counter", "polyvisor_admission_reviews_total", "Admission reviews answered.", "webhook", "allowed"),
    _of(API, "counter", "polyvisor_api_requests_total", "Requests of the aggregated API.", "verb", "resource", "code"),
    # virt-handler
    _of(HANDLER, "gauge", "kubevirt_virt_handler_ready_status", "Whether this process is ready."),
    _of(
        HANDLER,
        "gauge",
        "kubevirt_node_deprecated_machine_types",
        "A machine type of a node that its hypervisor is to give up; always 1.",
        "machine_type",
        "node",
    ),
    *(_of(HANDLER, kind, f"kubevirt_vmi_{name}", help, *MACHINE, *labels) for kind, name, help, labels in _USAGE),
)
"""Every figure, in the order in which the documentation shows them."""

BY_NAME = {figure.name: figure for figure in FIGURES}
