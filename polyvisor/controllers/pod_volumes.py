"""What a launcher Pod needs for its machine's volumes and kernel: volumes, mounts, containers that hold images. Pure.

An image stays in a container of its own, which does nothing but live: its files are seen by the node's agent, who shows
them to the launcher. Since an image need not hold a program, the container runs one that the launcher's container
brings as it starts: a kubelet starts a Pod's containers in their order, and waits for what a container does after its
start. (An init container would do as well, but a kubelet takes up to a second to notice that it has ended.)
What isn't obvious: the machine's own folder is mounted read-only into an unprivileged launcher. The agent makes disks
there and hands over the writing of each. The token of a service account is the guest's: the agent puts it onto a disc,
and no container that goes on running has it mounted. Volumes that come and go have a Pod of their own, which
:mod:`.attachment_pod` makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from polyvisor.api import launcher_pods as inside
from polyvisor.api import names
from polyvisor.api.reading import nested
from polyvisor.api.volumes import access_secrets, claim_of, plugged, shared
from polyvisor.controllers.support_containers import Support, support_resources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from polyvisor.api import Obj

WAITS = f"{names.PROGRAMS_FOLDER}/waits"
"""What a container runs that does nothing but live (:mod:`polyvisor.launcher.waiting`)."""
BRING = ("/bin/busybox", "cp", inside.WAITING_PROGRAM, WAITS)
"""What the launcher's container does after its start."""
AGAIN = 'trap "exit 0" TERM; while "$0" "$@" & wait $!; do :; done'
"""A shell's script that runs a program anew whenever it ends well, as one does whose only client has left."""
RESTRICTED: Mapping[str, object] = {
    "runAsUser": names.LAUNCHER_USER,
    "runAsGroup": names.LAUNCHER_USER,
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}
UNPRIVILEGED: Mapping[str, object] = {
    "fsGroup": names.LAUNCHER_USER,  # so that the launcher may write to claims on file systems that know owners
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""The security context of a Pod whose containers need no rights."""
TOKEN_CONTAINER = "service-account"
"""A kubelet fills no volume that no container mounts."""
TOKEN_SECONDS = 3607
"""What Kubernetes' own mounts of tokens ask for: the API server then lets the token live for a year."""
SHARING: Mapping[str, object] = {
    "runAsUser": 0,
    "runAsGroup": 0,
    "runAsNonRoot": False,
    "allowPrivilegeEscalation": False,
    "capabilities": {
        "drop": ["ALL"],
        "add": [
            *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETGID", "SETUID"),
            *("SYS_CHROOT", "SETPCAP"),  # which it gives up once it has locked itself in
        ],
    },
    "seccompProfile": {"type": "Unconfined"},
}
"""What a container needs whose program writes a guest's files under the guest's users. The common filter of system
calls forbids unshare(2), without which the program does not start; it then has a narrower filter of its own."""
BY_DEFAULT = partial(support_resources, config={})
CLOUD_INIT = ("cloudInitNoCloud", "cloudInitConfigDrive")


@dataclass
class PodStorage:
    """Parts of a Pod's spec; ``mounts`` and ``devices`` are the launcher container's."""

    volumes: list[Obj] = field(default_factory=list)
    mounts: list[Obj] = field(default_factory=list)
    devices: list[Obj] = field(default_factory=list)
    init_containers: list[Obj] = field(default_factory=list)
    containers: list[Obj] = field(default_factory=list)
    pull_secrets: list[Obj] = field(default_factory=list)
    after_start: list[str] = field(default_factory=list)
    """What the launcher's container runs before the kubelet starts those that follow it."""
    token: str = ""
    """The volume that a service account's token is in."""
    resources: Callable[..., Obj] = BY_DEFAULT
    """Gives the resources of a container by its kind."""

    def _volume(self, name: str, source: Obj, place: str) -> None:
        self.volumes.append({"name": name, **source})
        self.mounts.append({"name": name, "mountPath": place, "readOnly": True})

    def _token_volume(self, name: str) -> None:
        """Have the kubelet put the account's token into a folder of the Pod that the launcher does not see."""
        token = {"path": "token", "expirationSeconds": TOKEN_SECONDS}
        authority = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
        namespace = {"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}
        sources = [{"serviceAccountToken": token}, {"configMap": authority}, {"downwardAPI": {"items": [namespace]}}]
        self.volumes.append({"name": name, "projected": {"sources": sources}})

    def _token(self, name: str, launcher_image: str) -> None:
        self._token_volume(name)
        self.init_containers.append(
            {
                "name": TOKEN_CONTAINER,
                "image": launcher_image,
                "command": ["/bin/busybox", "true"],
                "volumeMounts": [{"name": name, "mountPath": "/token", "readOnly": True}],
                "resources": self.resources(Support.IMAGE, lasting=False),
                "securityContext": {**RESTRICTED, "readOnlyRootFilesystem": True},
            }
        )

    def _claim(self, volume: str, claim: str, block: bool, read_only: bool) -> None:
        name = inside.pod_volume(volume)
        self.volumes.append({"name": name, "persistentVolumeClaim": {"claimName": claim}})
        if block:
            self.devices.append({"name": name, "devicePath": inside.claim_device(volume)})
        else:
            mount: Obj = {"name": name, "mountPath": inside.claim_folder(volume)}
            self.mounts.append(mount | ({"readOnly": True} if read_only else {}))

    def _image(self, container: str, source: Obj) -> None:
        found: Obj = {
            "name": container,
            "image": source["image"],
            "command": [WAITS],
            "volumeMounts": [
                {"name": names.PROGRAMS_VOLUME, "mountPath": names.PROGRAMS_FOLDER, "readOnly": True},
            ],
            "resources": self.resources(Support.IMAGE),
            "securityContext": {**RESTRICTED, "readOnlyRootFilesystem": True},
        }
        if policy := source.get("imagePullPolicy"):
            found["imagePullPolicy"] = policy
        self.containers.append(found)
        secret = {"name": source.get("imagePullSecret")}
        if secret["name"] and secret not in self.pull_secrets:
            self.pull_secrets.append(secret)

    def _share(self, volume: Obj, claims: Mapping[str, Obj], program: Sequence[str], launcher_image: str) -> None:
        """Give the volume to a container that shares it, and not to the launcher; but it says if that cannot be."""
        name, own = volume["name"], PodStorage()
        _add(own, volume, claims)
        if own.token:
            own._token_volume(own.token)
            own.mounts.append({"name": own.token, "mountPath": f"{inside.SECRETS}/{name}", "readOnly": True})
        self.volumes += own.volumes
        self.devices += own.devices
        for mount in own.mounts:
            words = {"{socket}": inside.share_socket(name), "{folder}": mount["mountPath"]}
            sockets = {"name": inside.SHARES_VOLUME, "mountPath": inside.SHARES_FOLDER}
            self.containers.append(
                {
                    "name": inside.share_container(name),
                    "image": launcher_image,
                    "command": ["/bin/busybox", "sh", "-c", AGAIN, *(_filled(word, words) for word in program)],
                    "volumeMounts": [mount, sockets],
                    "resources": self.resources(Support.SHARE),
                    "securityContext": dict(SHARING),
                }
            )
            if sockets | {"readOnly": True} not in self.mounts:
                self.volumes.append({"name": inside.SHARES_VOLUME, "emptyDir": {}})
                self.mounts.append(sockets | {"readOnly": True})

    def _programs(self) -> None:
        if any(mount["name"] == names.PROGRAMS_VOLUME for one in self.containers for mount in one["volumeMounts"]):
            self.volumes.append({"name": names.PROGRAMS_VOLUME, "emptyDir": {}})
            self.mounts.append({"name": names.PROGRAMS_VOLUME, "mountPath": names.PROGRAMS_FOLDER})
            self.after_start = [*BRING]


def _filled(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def pod_storage(
    spec: Obj,
    claims: Mapping[str, Obj],
    *,
    launcher_image: str,
    privileged: bool,
    share: Sequence[str] = (),
    state: str = "",
    resources: Callable[..., Obj] = BY_DEFAULT,
) -> PodStorage:
    """Return what the Pod of a machine with ``spec`` needs.

    ``claims`` are those of its namespace, by name; ``share`` is the command that shares a folder with a guest,
    ``state`` the name of the claim that the machine's own state is kept in; ``resources`` gives those of a container
    by its kind.
    """
    found = PodStorage(resources=resources)
    kernel = (nested(spec, "domain", "firmware").get("kernelBoot") or {}).get("container")
    gone = {volume["name"] for volume in plugged(spec)}
    folders = shared(spec)
    for volume in spec.get("volumes") or []:
        if volume["name"] in folders and share:
            found._share(volume, claims, share, launcher_image)
        elif volume["name"] not in gone:
            _add(found, volume, claims)
    for name in access_secrets(spec):
        wanted = {"secretName": name, "optional": True}
        pod_volume = inside.pod_volume(name.replace(".", "-"), "access-cred")
        found._volume(pod_volume, {"secret": wanted}, f"{inside.SECRETS}/{pod_volume}")
    if state:
        found.volumes.append({"name": inside.STATE_VOLUME, "persistentVolumeClaim": {"claimName": state}})
        found.mounts.append({"name": inside.STATE_VOLUME, "mountPath": inside.STATE_FOLDER})
    if kernel:
        found._image(inside.KERNEL_CONTAINER, kernel)
    found._programs()
    if found.token:
        found._token(found.token, launcher_image)
    found.volumes.append({"name": names.MACHINE_VOLUME, "emptyDir": {}})
    found.volumes.append({"name": inside.HOTPLUG_VOLUME, "emptyDir": {}})
    places = [(names.MACHINE_VOLUME, names.MACHINE_FOLDER), (inside.HOTPLUG_VOLUME, inside.HOTPLUG_FOLDER)]
    if any(source.startswith("cloudInit") for volume in spec.get("volumes") or [] for source in volume):
        places.append((names.MACHINE_VOLUME, inside.EPHEMERAL_FOLDER))
    for name, place in places:
        mount: Obj = {"name": name, "mountPath": place}
        found.mounts.append(mount if privileged else mount | {"readOnly": True})
    return found


def named_storage(spec: Obj, claims: Mapping[str, Obj], *, state: str = "") -> PodStorage:
    """Return the volumes of a Pod that no kubelet runs: what a machine's volumes name, mounted nowhere.

    The scheduler sees the claims, so that they are bound for the Pod's Node; and the agent of a Node may read those
    Secrets and ConfigMaps alone that Pods there name.
    """
    full = pod_storage(spec, claims, launcher_image="", privileged=False, state=state)
    sources = ("persistentVolumeClaim", "secret", "configMap")
    named = [volume for volume in full.volumes if any(source in volume for source in sources)]
    return PodStorage(volumes=named, pull_secrets=full.pull_secrets)


def _add(found: PodStorage, volume: Obj, claims: Mapping[str, Obj]) -> None:
    name = volume["name"]
    if disk := volume.get("containerDisk"):
        found._image(inside.image_container(name), disk)
    if claim := claim_of(volume):
        found._claim(name, claim, inside.is_block(claims.get(claim) or {}), "ephemeral" in volume)
    if config := volume.get("configMap"):
        source = {"name": config.get("name"), "optional": bool(config.get("optional"))}
        found._volume(inside.pod_volume(name), {"configMap": source}, f"{inside.CONFIG_MAPS}/{name}")
    if secret := volume.get("secret"):
        wanted = {"secretName": secret.get("secretName"), "optional": bool(secret.get("optional"))}
        found._volume(inside.pod_volume(name), {"secret": wanted}, f"{inside.SECRETS}/{name}")
    if volume.get("serviceAccount"):
        found.token = inside.pod_volume(name)
    if about := volume.get("downwardAPI"):
        items = {"items": about.get("fields") or []}
        found._volume(inside.pod_volume(name), {"downwardAPI": items}, f"{inside.DOWNWARD_API}/{name}")
    if answers := volume.get("sysprep"):
        wanted, config = answers.get("secret") or {}, answers.get("configMap") or {}
        source = {"secret": {"secretName": wanted["name"]}} if wanted else {"configMap": {"name": config.get("name")}}
        found._volume(inside.pod_volume(name), source, f"{inside.SYSPREP}/{name}")
    for kind in CLOUD_INIT:
        for reference, ending in inside.SEED_SECRETS.items():
            if secret := ((volume.get(kind) or {}).get(reference) or {}).get("name"):
                pod_volume = inside.pod_volume(name, ending)
                found._volume(pod_volume, {"secret": {"secretName": secret}}, f"{inside.SECRETS}/{pod_volume}")
