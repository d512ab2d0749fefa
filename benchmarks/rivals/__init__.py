"""What others would put in front of the same model."""
