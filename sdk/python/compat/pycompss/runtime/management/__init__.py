"""Tracking of objects."""
