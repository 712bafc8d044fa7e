"""Access credentials and probes.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

from polyvisor.api.base import Int32, Model
from polyvisor.api.core.pod import ExecAction, HTTPGetAction, TCPSocketAction


class ConfigDriveSSHPublicKeyAccessCredentialPropagation(Model):
    """``ConfigDriveSSHPublicKeyAccessCredentialPropagation`` of KubeVirt's API."""


class NoCloudSSHPublicKeyAccessCredentialPropagation(Model):
    """``NoCloudSSHPublicKeyAccessCredentialPropagation`` of KubeVirt's API."""


class QemuGuestAgentSSHPublicKeyAccessCredentialPropagation(Model):
    """``QemuGuestAgentSSHPublicKeyAccessCredentialPropagation`` of KubeVirt's API."""

    users: list[str]


class SSHPublicKeyAccessCredentialPropagationMethod(Model):
    """``SSHPublicKeyAccessCredentialPropagationMethod`` of KubeVirt's API."""

    config_drive: ConfigDriveSSHPublicKeyAccessCredentialPropagation | None = None
    no_cloud: NoCloudSSHPublicKeyAccessCredentialPropagation | None = None
    qemu_guest_agent: QemuGuestAgentSSHPublicKeyAccessCredentialPropagation | None = None


class AccessCredentialSecretSource(Model):
    """``AccessCredentialSecretSource`` of KubeVirt's API."""

    secret_name: str


class SSHPublicKeyAccessCredentialSource(Model):
    """``SSHPublicKeyAccessCredentialSource`` of KubeVirt's API."""

    secret: AccessCredentialSecretSource | None = None


class SSHPublicKeyAccessCredential(Model):
    """``SSHPublicKeyAccessCredential`` of KubeVirt's API."""

    propagation_method: SSHPublicKeyAccessCredentialPropagationMethod
    source: SSHPublicKeyAccessCredentialSource


class QemuGuestAgentUserPasswordAccessCredentialPropagation(Model):
    """``QemuGuestAgentUserPasswordAccessCredentialPropagation`` of KubeVirt's API."""


class UserPasswordAccessCredentialPropagationMethod(Model):
    """``UserPasswordAccessCredentialPropagationMethod`` of KubeVirt's API."""

    qemu_guest_agent: QemuGuestAgentUserPasswordAccessCredentialPropagation | None = None


class UserPasswordAccessCredentialSource(Model):
    """``UserPasswordAccessCredentialSource`` of KubeVirt's API."""

    secret: AccessCredentialSecretSource | None = None


class UserPasswordAccessCredential(Model):
    """``UserPasswordAccessCredential`` of KubeVirt's API."""

    propagation_method: UserPasswordAccessCredentialPropagationMethod
    source: UserPasswordAccessCredentialSource


class AccessCredential(Model):
    """``AccessCredential`` of KubeVirt's API."""

    ssh_public_key: SSHPublicKeyAccessCredential | None = None
    user_password: UserPasswordAccessCredential | None = None


class GuestAgentPing(Model):
    """``GuestAgentPing`` of KubeVirt's API."""


class Probe(Model):
    """``Probe`` of KubeVirt's API."""

    exec: ExecAction | None = None
    failure_threshold: Int32 | None = None
    guest_agent_ping: GuestAgentPing | None = None
    http_get: HTTPGetAction | None = None
    initial_delay_seconds: Int32 | None = None
    period_seconds: Int32 | None = None
    success_threshold: Int32 | None = None
    tcp_socket: TCPSocketAction | None = None
    timeout_seconds: Int32 | None = None
