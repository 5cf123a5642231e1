"""Utilities that programs import."""
