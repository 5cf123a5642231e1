"""@software: refuses, naming the feature; it is not there yet."""

from shoal._decorators import not_supported

software = not_supported("software", "tasks described by a JSON file")
Software = software

__all__ = ["Software", "software"]
