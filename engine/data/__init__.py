"""From a dirty pile to rows: read, clean, split, format, preview."""
