"""Predicted paths of images as one HTML page."""
