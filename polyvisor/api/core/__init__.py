"""The types of Kubernetes itself that Polyvisor touches, as far as it touches them."""
