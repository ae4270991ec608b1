"""Polling: when to ask a source, and for which window."""
