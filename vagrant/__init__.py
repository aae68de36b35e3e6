"""The kernel matrix: real Debian kernels under qemu, the project's kernel tests in each."""
