"""Stages: everything that runs a model over data."""
