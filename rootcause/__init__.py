"""Incidents in, diagnoses out: service graph, features, rankers."""
