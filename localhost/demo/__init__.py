"""The whole loop, played through on one machine: `python -m localhost demo`."""
