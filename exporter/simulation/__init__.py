"""A world whose truth we know: for demo, simulate and tests."""
