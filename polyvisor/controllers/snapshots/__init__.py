"""Snapshots of virtual machines and their restores: by VolumeSnapshots, whoever makes those.

In a cluster the CSI driver makes them, standalone the node agent (:mod:`polyvisor.agent.imports.snapshots`); what
stands here does not tell the two apart.
"""

from polyvisor.controllers.snapshots.classes import SnapshotClasses as SnapshotClasses
from polyvisor.controllers.snapshots.restores import RestoreController as RestoreController
from polyvisor.controllers.snapshots.snapshots import SnapshotController as SnapshotController
