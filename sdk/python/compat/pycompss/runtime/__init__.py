"""Names of the runtime that programs import."""
