"""Second tiers behind the memory: they keep the last known good elsewhere."""
