"""The commands, a module each: `run(arguments)` returns the exit status."""
