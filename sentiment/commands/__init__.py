"""The command line, one module a topic: options, and one call each.

Every module has ``add(subparsers)``, which sets ``run`` to the function that
carries the command out and returns its exit code.
"""
