"""Who may ask, and how often: API keys, a rate limiter."""
