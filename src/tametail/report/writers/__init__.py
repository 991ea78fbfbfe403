"""Files of results: CSV, Markdown, LaTeX, JSON, model card."""
