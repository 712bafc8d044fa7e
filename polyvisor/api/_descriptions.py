"""Short descriptions of types and fields, for ``kubectl explain`` and the CRD manifests.

Written by tools/generate_types.py from the tables in tools/data; change those.
"""

DESCRIPTIONS = {
    "CPU": {
        "cores": "Cores of each socket.",
        "sockets": "Number of sockets.",
        "threads": "Threads of each core.",
        "model": "Model of the virtual CPU, host-model or host-passthrough.",
    },
    "DeveloperConfiguration": {
        "useEmulation": "Whether guests may run on an emulated CPU where there is no accelerator.",
    },
    "Disk": {
        "": "A disk of a machine; the volume of the same name holds its contents.",
        "name": "Name of the volume behind the disk.",
        "bootOrder": "Position in the order of devices to boot from, from 1.",
        "disk": "Attach as an ordinary disk.",
        "cdrom": "Attach as a CD-ROM.",
        "lun": "Attach as a SCSI logical unit.",
    },
    "DomainSpec": {
        "": "The virtual hardware of a machine.",
        "cpu": "Number and model of virtual CPUs.",
        "memory": "The guest's memory.",
        "devices": "Disks, interfaces and all other devices.",
        "firmware": "How the machine boots, and what its firmware tells the guest.",
        "resources": "What is asked of the node; memory here sets the guest's, if memory.guest is absent.",
        "machine": "The machine type, such as q35.",
    },
    "HypervisorConfiguration": {
        "": "A hypervisor driver that the cluster enables; the order of the list is preference.",
        "name": "Name of the driver, or one of its aliases.",
        "launcherImage": "Image of the launcher Pod for this driver.",
    },
    "Interface": {
        "": "A network interface of a machine; the network of the same name is what it joins.",
    },
    "KubeVirt": {
        "": "The configuration of the cluster's virtual machines, and the state of the installation.",
    },
    "KubeVirtConfiguration": {
        "hypervisors": "The drivers that the cluster enables, best first. Absent means all that nodes advertise.",
        "developerConfiguration": "Settings for development and for machines without hardware virtualization.",
        "hypervisorDefaults": "The hypervisor of machines that name none, by their namespace; the first that matches.",
    },
    "KubeVirtSpec": {
        "configuration": "Settings for all machines.",
    },
    "Memory": {
        "guest": "Memory that the guest sees.",
    },
    "Network": {
        "": "A network that an interface joins.",
    },
    "VirtualMachine": {
        "": "A machine that outlives its runs.",
        "spec": "What the machine is and whether it should run.",
        "status": "What the machine is doing.",
    },
    "VirtualMachineInstance": {
        "": "One run of a machine.",
        "spec": "What should run; it cannot be changed afterwards.",
        "status": "What is running, and where.",
    },
    "VirtualMachineInstanceReplicaSet": {
        "": "A number of like instances, kept at that number.",
        "spec": "How many instances there should be, and of what make.",
        "status": "How many instances there are.",
    },
    "VirtualMachineInstanceReplicaSetSpec": {
        "replicas": "How many instances there should be; 1 if absent.",
        "selector": "Which instances belong to the set, by their labels; has to select the template's.",
        "template": "What new instances are made from.",
        "paused": "Whether instances are neither made nor deleted for now.",
    },
    "VirtualMachineInstanceReplicaSetStatus": {
        "replicas": "Instances that are not over and not being deleted.",
        "readyReplicas": "Those of them that are ready.",
        "labelSelector": "The selector as text, for autoscalers.",
    },
    "VirtualMachineInstanceSpec": {
        "hypervisor": "Which hypervisor may run the machine. Absent means any that the cluster enables.",
        "": "What should run, and where it may.",
        "domain": "The virtual hardware.",
        "volumes": "Where the contents of disks come from; each is named by a disk.",
        "networks": "Networks that interfaces join; each is named by an interface.",
        "terminationGracePeriodSeconds": "Seconds that a guest is given to shut down before it is switched off.",
        "evictionStrategy": "What happens when the node is drained.",
        "nodeSelector": "Labels that the node must have.",
        "hostname": "The guest's host name, where it is told one.",
    },
    "VirtualMachineInstanceStatus": {
        "hypervisor": "Which hypervisor runs the machine, and which others were considered.",
        "phase": "Where in its life the instance stands.",
        "nodeName": "The node that it runs on.",
        "conditions": "Conditions of the instance.",
        "interfaces": "Network interfaces as seen at run time.",
    },
    "VirtualMachineSpec": {
        "": "What a machine is and whether it should run.",
        "running": "Whether the machine should run: true for Always, false for Halted. Excludes runStrategy.",
        "runStrategy": "When an instance is started and started again. Excludes running.",
        "template": "The instance that is started.",
        "instancetype": "The instance type that gives the machine its size.",
        "preference": "The preference that fills in what the machine leaves open.",
    },
    "VirtualMachineStatus": {
        "printableStatus": "The state of the machine in one word.",
        "conditions": "Conditions of the machine.",
        "ready": "Whether the instance is up and ready.",
        "created": "Whether an instance exists.",
    },
    "Volume": {
        "": "Where the contents of a disk come from; exactly one source is given.",
        "name": "Name by which a disk refers to the volume.",
        "containerDisk": "A disk image inside a container image; changes are lost when the instance ends.",
        "emptyDisk": "An empty disk that lasts as long as the instance.",
        "hostDisk": "A disk image in a folder of the node.",
        "persistentVolumeClaim": "A PersistentVolumeClaim.",
        "cloudInitNoCloud": "A cloud-init seed of the NoCloud kind.",
    },
    "CPUInstancetype": {
        "guest": "Number of CPUs that the guest sees.",
    },
    "CPUPreferences": {
        "preferredCPUTopology": "As what the CPUs are shown: cores (the default), sockets, threads, spread or any.",
    },
    "MemoryInstancetype": {
        "guest": "The guest's memory.",
        "overcommitPercent": "How much less memory is asked of the node than the guest sees, in per cent.",
    },
    "VirtualMachineClusterInstancetype": {
        "": "The size of a machine, for machines of all namespaces.",
        "spec": "What a machine of this type has; nothing of it can be given in the machine as well.",
    },
    "VirtualMachineClusterPreference": {
        "": "What a guest prefers, for machines of all namespaces.",
        "spec": "What a machine gets where it says nothing itself.",
    },
    "VirtualMachineInstancetype": {
        "": "The size of a machine, for machines of its namespace.",
        "spec": "What a machine of this type has; nothing of it can be given in the machine as well.",
    },
    "VirtualMachinePreference": {
        "": "What a guest prefers, for machines of its namespace.",
        "spec": "What a machine gets where it says nothing itself.",
    },
    "VirtualMachinePreferenceSpec": {
        "preferredHypervisor": "The hypervisor of a machine that names none itself.",
        "requirements": "The least that a machine must have.",
    },
    "ControllerRevision": {
        "": "A past state of an object, kept by a controller.",
    },
    "HypervisorDefault": {
        "": "A hypervisor for the machines of some namespaces that name none.",
        "namespaceSelector": "The namespaces that it is for, by their labels; an empty selector is for all.",
        "hypervisor": "What a machine there is given as its spec.hypervisor.",
    },
    "HypervisorChoice": {
        "": "What a machine asks of its hypervisor; absent means any driver that the cluster enables, best first.",
        "driver": "The libvirt driver that must run this machine. Excludes anyOf.",
        "anyOf": "Drivers that may run this machine, best first; the first one that fits is taken. Excludes driver.",
        "virtType": "The libvirt domain type, where a driver has several, such as kvm or qemu.",
        "endpoint": "The HypervisorEndpoint on whose host the machine must run. Absent means a node of the cluster.",
    },
    "HypervisorStatus": {
        "": "Which hypervisor runs a machine, and why.",
        "driver": "The libvirt driver that was chosen.",
        "virtType": "The libvirt domain type that was chosen.",
        "version": "Version of the hypervisor, as libvirt reports it.",
        "libvirtVersion": "Version of libvirt on the other side of the connection.",
        "endpoint": "The HypervisorEndpoint that the machine runs behind, if any.",
        "domain": "The machine's domain on the endpoint's host.",
        "candidates": "Every driver that was considered, and why it was passed over.",
    },
    "HypervisorDomain": {
        "": "A libvirt domain on the host of an endpoint.",
        "name": "Its name there, which has a suffix if the usual name was taken.",
        "uuid": "Its UUID there.",
    },
    "HypervisorCandidate": {
        "": "A driver that was considered for a machine.",
        "driver": "Name of the driver.",
        "verdict": "What became of it: chosen, still eligible, or why not.",
        "reasons": "What spoke against it.",
    },
    "HypervisorReason": {
        "": "One thing that speaks against a driver.",
        "field": "The field of the machine that asks for what the driver lacks.",
        "feature": "The feature, by its name in the catalogue.",
        "message": "The reason in a sentence.",
    },
    "HypervisorEndpoint": {
        "": "A hypervisor host that runs no kubelet, and how libvirt reaches it.",
    },
    "HypervisorEndpointSpec": {
        "": "Connection, credentials and mappings of an endpoint.",
        "uri": "libvirt's connection URI, without a password. Its scheme decides the driver.",
        "credentials": "Where the connection's credentials are. Absent means that none are needed.",
        "tls": "How the host's TLS certificate is verified.",
        "allowedNamespaces": "Namespaces whose virtual machines may use the endpoint. Absent means none.",
        "storage": "Which StorageClass is which storage pool of the host.",
        "networks": "Which network of a virtual machine is which network of the host.",
        "capacity": "Resources that the endpoint offers. What is absent is measured.",
        "management": "Full, the default, or Observe: domains are listed and nothing on the host is changed.",
    },
    "EndpointCredentials": {
        "": "Where an endpoint's credentials are.",
        "secretRef": "A Secret in Polyvisor's namespace, labelled hypervisor.kubevirt.io/endpoint=NAME.",
    },
    "EndpointSecretReference": {
        "name": "Name of the Secret.",
    },
    "EndpointTLS": {
        "": "How the host's TLS certificate is verified.",
        "caBundle": "PEM certificates of the authorities that may sign the host's certificate, encoded in base64.",
        "insecure": "Never, the default, or Allow: accept a connection without encryption or verification.",
    },
    "EndpointNamespaces": {
        "": "Namespaces that may use an endpoint.",
        "selector": "Selects namespaces by their labels.",
    },
    "EndpointStorage": {
        "": "A StorageClass that is a storage pool of the host.",
        "storageClass": "Name of the StorageClass.",
        "pool": "Name of libvirt's storage pool, such as an ESX datastore.",
        "defaultForImages": "Whether images and cloud-init media are kept in this pool.",
    },
    "EndpointNetwork": {
        "": "A network of virtual machines that is a network of the host.",
        "name": "pod, or a NetworkAttachmentDefinition as NAMESPACE/NAME.",
        "network": "Name of libvirt's network, or of a bridge, port group or switch of the host.",
        "cidrs": "Address ranges of the network. An address that a guest reports outside of them is not shown.",
        "reachable": "Whether addresses of this network can be reached from the cluster.",
    },
    "EndpointCapacity": {
        "": "Amounts of an endpoint's resources.",
        "cpu": "CPUs.",
        "memory": "Memory.",
        "pods": "How many virtual machines may run.",
    },
    "HypervisorEndpointStatus": {
        "": "What was last seen of an endpoint.",
        "observedGeneration": "Generation of the object that this status describes.",
        "driver": "The driver, by the URI's scheme.",
        "libvirtVersion": "Version of libvirt on the host; where there is none, of the agent's own libvirt.",
        "hypervisorVersion": "Version of the hypervisor.",
        "hostName": "The host's own name.",
        "hostUUID": "UUID of the host, as libvirt reports it.",
        "capacity": "Resources of the host.",
        "allocatable": "Resources of the host less what foreign domains use.",
        "domains": "Number of domains on the host.",
        "credentials": "Which version of the Secret was used.",
        "conditions": "State of the connection and of what depends on it.",
    },
    "EndpointDomains": {
        "": "Number of domains on a host.",
        "managed": "Domains of this installation.",
        "foreign": "All other domains.",
    },
    "EndpointCredentialsStatus": {
        "": "Versions of an endpoint's Secret.",
        "good": "The last version that the host accepted.",
        "tried": "The last version that was tried.",
    },
    "EndpointSecretVersion": {
        "": "A version of a Secret.",
        "name": "Name of the Secret.",
        "resourceVersion": "The Secret's resourceVersion.",
    },
    "EndpointCondition": {
        "": "One aspect of an endpoint's state.",
        "type": "Name of the aspect.",
        "status": "True, False or Unknown.",
        "reason": "Why, as one word for programs.",
        "message": "Why, in a sentence.",
        "suggestion": "What an administrator can do about it.",
        "lastTransitionTime": "When the status last changed.",
        "observedGeneration": "Generation of the object that the condition describes.",
    },
}
