"""The commands, a module each: `parser()` has its options, `run(arguments)` returns the exit status."""
