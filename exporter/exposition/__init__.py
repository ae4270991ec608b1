"""How we tell: every metric in one table, and the web server that shows it."""
