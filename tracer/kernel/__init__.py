"""All that touches the kernel. Nothing outside this package imports bcc."""
