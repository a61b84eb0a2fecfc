"""Upstreams made of upstreams."""
