"""@decaf: refuses, naming the feature; it is not there yet."""

from shoal._decorators import not_supported

decaf = not_supported("decaf", "Decaf workflows as tasks")
Decaf = decaf

__all__ = ["Decaf", "decaf"]
