"""Measuring policies: head to head, on benchmarks, and the report that shows it all."""
