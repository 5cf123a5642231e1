"""@multinode: refuses, naming the feature; it is not there yet."""

from shoal._decorators import not_supported

multinode = not_supported("multinode", "tasks over several nodes")
MultiNode = Multinode = multinode

__all__ = ["MultiNode", "Multinode", "multinode"]
