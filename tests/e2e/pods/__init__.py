"""Machines in launcher Pods of a real node. One cluster serves all of these tests."""
