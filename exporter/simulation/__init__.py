"""Simulation: a world whose truth is known, for demo, simulate and tests."""
