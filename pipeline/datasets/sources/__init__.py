"""The places that pictures come from, one module for each kind."""
