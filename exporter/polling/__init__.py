"""When to ask, and for what."""
