"""Predictions for many pictures: a folder, an archive or a list of addresses, into one CSV file."""
