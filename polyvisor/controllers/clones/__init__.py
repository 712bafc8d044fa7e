"""VirtualMachineClones: a snapshot of the source, restored as another virtual machine with an identity of its own."""

from polyvisor.controllers.clones.controller import CloneController as CloneController
