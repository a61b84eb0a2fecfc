"""Ways into programs and libraries that have their own way to look up names."""
