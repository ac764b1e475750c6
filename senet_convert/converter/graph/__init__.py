"""The network as a graph of values: from the definition as it is written to what runs at inference."""
