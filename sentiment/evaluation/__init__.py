"""Judging predictions: labelled tweets, metrics, and how they are shown.

Pure functions of what they are given: no clock, no network, no environment.
"""
