"""Raw scans and reports -> checked ArrayRecord."""
