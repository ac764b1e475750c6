"""The server's settings: their table, their types, and where values come from."""
