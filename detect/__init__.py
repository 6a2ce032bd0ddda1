"""Batches in, signals and incidents out: templates, forecaster, detectors, convergence."""
