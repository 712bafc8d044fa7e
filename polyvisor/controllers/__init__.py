"""The controllers: each brings what is in line with what is wanted, again and again, from the present state alone."""

from polyvisor.controllers.run import run_controllers

__all__ = ["run_controllers"]
