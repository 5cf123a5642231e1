"""Serialisation to files."""
