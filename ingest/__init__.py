"""Bytes in, columnar batches out: wire formats, transports, dead letters, micro-batches."""
