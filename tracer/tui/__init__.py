"""The screens: they draw Snapshots and know nothing of where those come from."""
