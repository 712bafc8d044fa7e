"""The types of KubeVirt's API, with Polyvisor's own fields; the modules are generated."""
