"""Which usual mistake about cameras a manifest makes, seen from a sample of its rows."""
