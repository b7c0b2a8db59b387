"""Scores of every task: statistics per row, figures from their sums, intervals from resamples."""
