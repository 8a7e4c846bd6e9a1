"""Azure ML on this machine: the same REST calls, the same YAML, each step's own command in a process."""
