"""The contract of `ml` v1: fields, resources, lists, masks and error envelopes."""
