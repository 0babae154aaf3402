"""Shapes of charts: they know figures and labels, and nothing of an evaluation."""
