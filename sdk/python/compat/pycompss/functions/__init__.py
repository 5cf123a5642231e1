"""Helpers built on tasks."""
