"""What test programs import."""
