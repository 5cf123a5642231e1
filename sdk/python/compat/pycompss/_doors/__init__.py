"""Commands under the names that COMPSs scripts call: thin doors to `shoal` and the SDK."""
