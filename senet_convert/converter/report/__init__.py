"""What was converted and how it was checked."""
