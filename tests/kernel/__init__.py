"""Tests on the running kernel: they load the eBPF programs and need root."""
