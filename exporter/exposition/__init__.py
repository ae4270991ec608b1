"""Exposition: every metric in one table, the formats it is written in, and the web server."""
