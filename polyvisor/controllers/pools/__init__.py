"""VirtualMachinePools: a number of like virtual machines, each with a name by its index and claims of its own."""

from polyvisor.controllers.pools.controller import PoolController as PoolController
