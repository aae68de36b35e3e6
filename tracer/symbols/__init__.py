"""From an address in a process to function names and source lines."""
