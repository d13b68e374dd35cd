"""Files that others wrote or will read: rows of JSONL, CSV, Parquet and `datasets`, and the shapes of their fields."""
