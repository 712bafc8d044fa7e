"""The node's devices, offered to Pods through Kubernetes' device plugin API."""
