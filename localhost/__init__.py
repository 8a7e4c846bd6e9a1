"""A developer's Azure on one machine: storage, the Functions host and their settings, without an account."""
