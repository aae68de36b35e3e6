"""From addresses in a process to functions and lines."""
