"""What several commands need: options, types of values, files, refusals, messages, tables."""
