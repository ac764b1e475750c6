"""Every engine held against an exact run of the same graph."""
