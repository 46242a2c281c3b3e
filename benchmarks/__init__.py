"""Reproducible measurements, and the laboratory network that they and the tests use."""
