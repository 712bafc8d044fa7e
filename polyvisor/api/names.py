"""The names that clients see: labels, annotations, finalizers, phases, conditions, statuses, reasons.

Values are KubeVirt's wherever it has one, so that dashboards and tests written for it work. Those that Polyvisor adds
stand below ``hypervisor.kubevirt.io``. Nothing else in the code spells such a name out.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Any

API_VERSION = "kubevirt.io/v1"
KUBEVIRT_NAMESPACE = "kubevirt"
KUBEVIRT_NAME = "kubevirt"
CDI_CONFIG_NAME = "config"

# -- the certificates' Secrets, each for one role ---------------------------------------------------------------------
CA_SECRET = "kubevirt-ca"
API_SECRET = "kubevirt-virt-api-certs"
API_CLIENT_SECRET = "kubevirt-virt-api-client-certs"
HANDLER_SECRET = "kubevirt-virt-handler-server-certs"
API_SERVICE = "virt-api"
WEBHOOKS = "virt-api"
PART_OF_LABEL = "app.kubernetes.io/part-of"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGER = "polyvisor"
API_CLIENT_NAME = "kubevirt.io:system:client:virt-api"
"""The name by which node agents know virt-api."""

# -- labels ------------------------------------------------------------------------------------------------------------
APP_LABEL = "kubevirt.io"
LAUNCHER_APP = "virt-launcher"
COMPONENT_ACCOUNTS = ("kubevirt-controller", "kubevirt-handler", "kubevirt-apiserver")
"""Service accounts of those components that write machines."""
HANDLER_APP = "virt-handler"
API_APP = "virt-api"
CONTROLLER_APP = "virt-controller"
OPERATOR_APP = "virt-operator"
CREATED_BY_LABEL = "kubevirt.io/created-by"
VM_NAME_LABEL = "vm.kubevirt.io/name"
VMI_ID_LABEL = "vmi.kubevirt.io/id"
NODE_NAME_LABEL = "kubevirt.io/nodeName"
NODE_SCHEDULABLE_LABEL = "kubevirt.io/schedulable"
MIGRATION_SELECTOR_LABEL = "kubevirt.io/vmi-name"
OUTDATED_LAUNCHER_LABEL = "kubevirt.io/outdatedLauncherImage"
HOSTNAME_LABEL = "kubernetes.io/hostname"
ARCH_LABEL = "kubernetes.io/arch"
OS_LABEL = "kubernetes.io/os"

# -- networks of launcher Pods -----------------------------------------------------------------------------------------
NETWORKS_ANNOTATION = "k8s.v1.cni.cncf.io/networks"
NETWORK_STATUS_ANNOTATION = "k8s.v1.cni.cncf.io/network-status"
POD_INTERFACE = "eth0"
POD_INTERFACE_PREFIX = "pod"
"""Before the hash of a further network's name; no other interface of a launcher Pod is called so."""


def pod_interface(network: dict[str, Any]) -> str:
    """Return the launcher Pod's interface for a machine's network."""
    multus = network.get("multus")
    if multus is None or multus.get("default"):
        return POD_INTERFACE
    return f"{POD_INTERFACE_PREFIX}{hashlib.sha256(network['name'].encode()).hexdigest()[:11]}"


HYPERVISOR_PREFIX = "hypervisor.kubevirt.io/"
FEATURE_PREFIX = "feature.hypervisor.kubevirt.io/"


def driver_label(driver: str) -> str:
    """Return the label of a node on which ``driver`` works."""
    return f"{HYPERVISOR_PREFIX}{driver}"


def version_label(driver: str) -> str:
    """Return the label that carries the hypervisor's version on a node."""
    return f"{HYPERVISOR_PREFIX}{driver}.version"


def virt_type_label(driver: str, virt_type: str) -> str:
    """Return the label of a node on which ``driver`` really runs guests of ``virt_type``."""
    return f"{HYPERVISOR_PREFIX}{driver}.{virt_type}"


def feature_label(driver: str, feature: str) -> str:
    """Return the label of a node that shows a conditional feature of ``driver``."""
    return f"{FEATURE_PREFIX}{driver}.{feature}"


# -- instance types and preferences ------------------------------------------------------------------------------------
INSTANCETYPE_PREFIX = "instancetype.kubevirt.io/"
START_OF_LABEL = "hypervisor.kubevirt.io/start-of"
"""On a ControllerRevision: the uid of the machine whose present instance was made from it."""


def default_label(field: str) -> str:
    """Return the label by which a claim names the instance type or preference of machines that boot from it."""
    return f"{INSTANCETYPE_PREFIX}default-{field}"


def default_kind_label(field: str) -> str:
    """Return the label that tells the kind of that."""
    return f"{default_label(field)}-kind"


def revision_label(what: str) -> str:
    """Return a label of the ControllerRevision of an instance type or preference."""
    return f"{INSTANCETYPE_PREFIX}object-{what}"


# -- annotations and finalizers ----------------------------------------------------------------------------------------
DOMAIN_ANNOTATION = "kubevirt.io/domain"
PCI_TOPOLOGY_ANNOTATION = "kubevirt.io/pci-topology-version"
HEARTBEAT_ANNOTATION = "kubevirt.io/heartbeat"
VM_GENERATION_ANNOTATION = "kubevirt.io/vm-generation"
KEPT_ANNOTATION = "hypervisor.kubevirt.io/kept-of-domain"
"""On a VirtualMachine made of a domain: what its spec cannot express, as JSON (XPath -> value)."""
TEMPLATE_ANNOTATION = "hypervisor.kubevirt.io/template"
"""On an instance: digests of the template that it is up to."""
ABSENT = "absent"
"""The state of a network card that is to leave its machine."""
OWNER_VMI_NAME_ANNOTATION = "kubevirt.io/owner-vmi-name"
OWNER_VMI_UID_ANNOTATION = "kubevirt.io/owner-vmi-uid"
INSTANCETYPE_ANNOTATIONS = {
    "VirtualMachineInstancetype": "kubevirt.io/instancetype-name",
    "VirtualMachineClusterInstancetype": "kubevirt.io/cluster-instancetype-name",
    "VirtualMachinePreference": "kubevirt.io/preference-name",
    "VirtualMachineClusterPreference": "kubevirt.io/cluster-preference-name",
}
"""On an instance: what its machine took its size or its defaults from, by kind."""
KEEP_LAUNCHER_ANNOTATION = "kubevirt.io/keep-launcher-alive-after-failure"
VMI_FINALIZER = "kubevirt.io/foregroundDeleteVirtualMachine"
VM_FINALIZER = "kubevirt.io/virtualMachineControllerFinalize"
VOLUME_FINALIZER = "hypervisor.kubevirt.io/volume"
"""On a claim: its folder on the node is there, and goes with it."""
FOREGROUND_FINALIZER = "foregroundDeletion"
ORPHAN_FINALIZER = "orphan"

# -- the launcher Pod --------------------------------------------------------------------------------------------------
LAUNCHER_POD_PREFIX = "virt-launcher-"
COMPUTE_CONTAINER = "compute"
LAUNCHER_VOLUME = "polyvisor"
LAUNCHER_FOLDER = "/var/run/polyvisor"
"""The launcher's folder inside its Pod: a volume by that name, which the node agent sees too."""
LAUNCHER_USER = 107
"""Whom a launcher without privilege runs as: KubeVirt's number, so that disks which it wrote can be read."""
MACHINE_VOLUME = "polyvisor-machine"
MACHINE_FOLDER = "/var/run/polyvisor-machine"
"""Where the agent makes a machine's own disks: the launcher sees them, and may write only to what it is handed."""
PROGRAMS_VOLUME = "polyvisor-programs"
PROGRAMS_FOLDER = "/.polyvisor"
"""Where the containers of container disks find the one program that they run."""
CONSOLE_CONTAINER = "guest-console-log"
PRIVATE_FOLDER = "/var/run/kubevirt-private"
"""Below it the launcher finds claims, ConfigMaps and the like, where KubeVirt's launcher has them."""
READY_GATE = "hypervisor.kubevirt.io/virtual-machine-ready"
"""On the Pods of machines with a readiness probe, so that Services leave out guests that are not ready."""
UNPAUSED_GATE = "kubevirt.io/virtual-machine-unpaused"
VIRTUAL_NODE_TAINT = "hypervisor.kubevirt.io/virtual-node"


class Phase(StrEnum):
    """Phases of a VirtualMachineInstance (and, up to Unknown, of a Pod)."""

    PENDING = "Pending"
    SCHEDULING = "Scheduling"
    SCHEDULED = "Scheduled"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    WAITING_FOR_SYNC = "WaitingForSync"
    UNKNOWN = "Unknown"


FINAL_PHASES = frozenset({Phase.SUCCEEDED, Phase.FAILED})


class PodPhase(StrEnum):
    """Phases of a Pod."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


class RunStrategy(StrEnum):
    """How a VirtualMachine's instance is kept running."""

    ALWAYS = "Always"
    HALTED = "Halted"
    MANUAL = "Manual"
    RERUN_ON_FAILURE = "RerunOnFailure"
    ONCE = "Once"
    WAIT_AS_RECEIVER = "WaitAsReceiver"


class PrintableStatus(StrEnum):
    """A VirtualMachine's state in one word."""

    STOPPED = "Stopped"
    PROVISIONING = "Provisioning"
    STARTING = "Starting"
    RUNNING = "Running"
    PAUSED = "Paused"
    STOPPING = "Stopping"
    TERMINATING = "Terminating"
    CRASH_LOOP_BACK_OFF = "CrashLoopBackOff"
    MIGRATING = "Migrating"
    UNKNOWN = "Unknown"
    ERROR_UNSCHEDULABLE = "ErrorUnschedulable"
    ERR_IMAGE_PULL = "ErrImagePull"
    IMAGE_PULL_BACK_OFF = "ImagePullBackOff"
    ERROR_PVC_NOT_FOUND = "ErrorPvcNotFound"
    DATA_VOLUME_ERROR = "DataVolumeError"
    WAITING_FOR_VOLUME_BINDING = "WaitingForVolumeBinding"
    WAITING_FOR_RECEIVER = "WaitingForReceiver"


class VmiCondition(StrEnum):
    """Condition types of a VirtualMachineInstance."""

    READY = "Ready"
    PAUSED = "Paused"
    PROVISIONING = "Provisioning"
    SYNCHRONIZED = "Synchronized"
    LIVE_MIGRATABLE = "LiveMigratable"
    STORAGE_LIVE_MIGRATABLE = "StorageLiveMigratable"
    AGENT_CONNECTED = "AgentConnected"
    AGENT_VERSION_NOT_SUPPORTED = "AgentVersionNotSupported"
    ACCESS_CREDENTIALS = "AccessCredentialsSynchronized"
    DATA_VOLUMES_READY = "DataVolumesReady"
    EVICTION_REQUESTED = "EvictionRequested"
    SOFTWARE_EMULATION = "SoftwareEmulation"
    POD_SCHEDULED = "PodScheduled"
    HYPERVISOR_AVAILABLE = "HypervisorAvailable"


class VmCondition(StrEnum):
    """Condition types of a VirtualMachine."""

    READY = "Ready"
    FAILURE = "Failure"
    PAUSED = "Paused"
    RESTART_REQUIRED = "RestartRequired"
    MANUAL_RECOVERY_REQUIRED = "ManualRecoveryRequired"


class ReplicaSetCondition(StrEnum):
    """Condition types of a VirtualMachineInstanceReplicaSet."""

    REPLICA_FAILURE = "ReplicaFailure"
    REPLICA_PAUSED = "ReplicaPaused"


class KubeVirtCondition(StrEnum):
    """Condition types of the KubeVirt object."""

    AVAILABLE = "Available"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    CREATED = "Created"
    SYNCHRONIZED = "Synchronized"


class KubeVirtPhase(StrEnum):
    """Phases of the KubeVirt object."""

    DEPLOYING = "Deploying"
    DEPLOYED = "Deployed"
    DELETING = "Deleting"
    DELETED = "Deleted"


class ConditionStatus(StrEnum):
    """Values of a condition's status."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class EvictionStrategy(StrEnum):
    """What happens to a machine whose node is drained."""

    NONE = "None"
    LIVE_MIGRATE = "LiveMigrate"
    LIVE_MIGRATE_IF_POSSIBLE = "LiveMigrateIfPossible"
    EXTERNAL = "External"


class StateChangeAction(StrEnum):
    """Actions in ``status.stateChangeRequests`` of a VirtualMachine."""

    START = "Start"
    STOP = "Stop"


class CandidateVerdict(StrEnum):
    """Verdicts in ``status.hypervisor.candidates``."""

    CHOSEN = "Chosen"
    ELIGIBLE = "Eligible"
    UNSUPPORTED = "Unsupported"
    NOT_ENABLED = "NotEnabled"
    NO_NODE = "NoNode"
    UNSCHEDULABLE = "Unschedulable"


class InterfaceState(StrEnum):
    """Wanted states of a network interface."""

    UP = "up"
    DOWN = "down"
    ABSENT = "absent"


class EventType(StrEnum):
    """Types of an Event."""

    NORMAL = "Normal"
    WARNING = "Warning"


class Reason(StrEnum):
    """Reasons in conditions and Events."""

    UNHEALTHY = "Unhealthy"
    ACCESS_SET = "AccessCredentialsSyncSuccess"
    ACCESS_FAILED = "AccessCredentialsSyncFailed"
    KILLING = "Killing"
    NOT_READY = "ContainersNotReady"
    CREATED = "Created"
    STARTED = "Started"
    STOPPED = "Stopped"
    SHUTTING_DOWN = "ShuttingDown"
    DELETED = "Deleted"
    RESUMED = "Resumed"
    SYNC_FAILED = "SyncFailed"
    SUCCESSFUL_CREATE = "SuccessfulCreate"
    FAILED_CREATE = "FailedCreate"
    SUCCESSFUL_DELETE = "SuccessfulDelete"
    FAILED_DELETE = "FailedDelete"
    SUCCESSFUL_UPDATE = "SuccessfulUpdate"
    FAILED_UPDATE = "FailedUpdate"
    SUCCESSFUL_HAND_OVER = "SuccessfulHandOver"
    FAILED_HAND_OVER = "FailedHandOver"
    SUCCESSFUL_PAUSED = "SuccessfulPaused"
    SUCCESSFUL_RESUMED = "SuccessfulResumed"
    BACKEND_STORAGE = "FailedBackendStorageCreate"
    FAILED_FIND_INSTANCETYPE = "FailedFindInstancetype"
    FAILED_FIND_PREFERENCE = "FailedFindPreference"
    FAILED_PVC_NOT_FOUND = "FailedPvcNotFound"
    FAILED_DATA_VOLUME_IMPORT = "FailedDataVolumeImport"
    FAILED_DATA_VOLUME_CREATE = "FailedDataVolumeCreate"
    UNAUTHORIZED_DATA_VOLUME_CREATE = "UnauthorizedDataVolumeCreate"
    SUCCESSFUL_DATA_VOLUME_CREATE = "SuccessfulDataVolumeCreate"
    NOT_ALL_DVS_READY = "NotAllDVsReady"
    NOT_ALL_DVS_BOUND = "NotAllDVsBound"
    ALL_DVS_READY = "AllDVsReady"
    PVC_NOT_FOUND = "PVCNotFound"
    ERR_IMAGE_PULL = "ErrImagePull"
    IMAGE_PULL_BACK_OFF = "ImagePullBackOff"
    NODE_UNRESPONSIVE = "NodeUnresponsive"
    NODE_NOT_READY = "NodeNotReady"
    POD_NOT_EXISTS = "PodNotExists"
    POD_TERMINATING = "PodTerminating"
    POD_CONDITION_MISSING = "PodConditionMissing"
    GUEST_NOT_RUNNING = "GuestNotRunning"
    UNSCHEDULABLE = "Unschedulable"
    CRASHED = "Crashed"
    DESTROYED = "Destroyed"
    SHUTDOWN = "Shutdown"
    FAILED = "Failed"
    PANICKED = "Panicked"
    PAUSED_BY_USER = "PausedByUser"
    VMI_NOT_EXISTS = "VMINotExists"
    DRIVER_CHOSEN = "DriverChosen"
    DRIVER_PASSED_OVER = "DriverPassedOver"
    NO_DRIVER = "NoDriver"
    STORAGE_NOT_READY = "StorageNotReady"
    NOT_MIGRATABLE = "NotMigratable"
    SOFTWARE_EMULATION = "SoftwareEmulation"
    NO_EFFECT = "NoEffect"
    HYPERVISOR_GONE = "HypervisorGone"
    ALL_RESOURCES_CREATED = "AllResourcesCreated"
    WRONG_INSTALLATION = "WrongInstallation"
    ALL_COMPONENTS_READY = "AllComponentsReady"
    DEPLOYMENT_IN_PROGRESS = "DeploymentInProgress"
    SCHEDULED = "Scheduled"
    FAILED_SCHEDULING = "FailedScheduling"


NODE_TROUBLES = frozenset({Reason.NODE_UNRESPONSIVE, Reason.NODE_NOT_READY})
"""Reasons of a machine's Ready=False that are its node's, and that the node's agent therefore leaves alone."""
DEFAULT_GRACE_PERIOD_SECONDS = 30
"""KubeVirt's default for a template that gives no terminationGracePeriodSeconds."""
