"""Programs that make things happen on real sockets, and say what they made happen."""
