"""Ways to carry a question to one server."""
