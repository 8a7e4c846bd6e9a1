"""The retraining loop: when a cycle starts, how it is carried through, and what becomes of it."""
