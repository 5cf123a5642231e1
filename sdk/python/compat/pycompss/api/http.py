"""@http: refuses, naming the feature; it is not there yet."""

from shoal._decorators import not_supported

http = not_supported("http", "HTTP requests as tasks")
HTTP = Http = http

__all__ = ["HTTP", "Http", "http"]
