"""The laboratory: real hypervisors on any development machine (``make lab``).

QEMU emulates a CPU with virtualization (AMD SVM with nested paging), so an emulated machine (level 1, the *host* of a
lane) can run KVM or Xen, and that runs a real guest of Polyvisor's (level 2). Each lane builds its host's root file
system from Debian's packages, boots it with an init of its own, runs a job in it and collects a result.

``roots`` builds root file systems and keeps them, ``initramfs`` packs what boots them, ``host`` runs the emulated
machine, ``results`` is what a lane hands back; ``lanes`` has one module a lane, ``inside`` what runs in the hosts.
"""
