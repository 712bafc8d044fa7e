"""Strict checks of an object against its model."""
