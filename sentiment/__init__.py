"""Tweet sentiment that learns from its users."""
