"""Which driver runs a machine, on which nodes, and why not the others. Pure: values in, values out."""

from polyvisor.placement.offers import NOWHERE
from polyvisor.placement.place import place
from polyvisor.placement.result import Candidate, Placement
from polyvisor.placement.shapes import NodeShapes

__all__ = ["NOWHERE", "Candidate", "NodeShapes", "Placement", "place"]
