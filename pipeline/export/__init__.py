"""Versions as zips for programs outside of Graft, in the formats that phones and servers load."""
