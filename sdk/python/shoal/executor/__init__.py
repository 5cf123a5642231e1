"""The process that runs tasks for an agent (docs/client-protocol.md §5)."""
