"""A whole Debian under QEMU, and the same tree under LXC: each is booted once, and all of these tests ask it."""
