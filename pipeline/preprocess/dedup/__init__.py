"""Exact and near duplicates: fingerprints of images, and the groups they form."""
