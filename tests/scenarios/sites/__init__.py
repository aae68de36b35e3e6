"""Programs that close connections from two places."""
