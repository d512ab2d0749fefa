"""What describes a dataset version to people and to other programs."""
