"""The description of the HTTP interface, and pages that show it."""
