"""Doubles of what tests must not reach, and made-up data: one module for each seam."""
