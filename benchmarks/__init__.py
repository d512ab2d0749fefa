"""What Graft claims of speed and accuracy, measured as ratios within one run."""
