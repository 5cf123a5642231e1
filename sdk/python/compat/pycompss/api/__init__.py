"""Decorators, parameters and functions of the programming model."""
