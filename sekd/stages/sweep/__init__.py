"""The sweep: students of one teacher side by side."""
