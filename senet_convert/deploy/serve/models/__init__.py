"""The models that are served, apart from any protocol: where they lie, loading, batching, one request."""
