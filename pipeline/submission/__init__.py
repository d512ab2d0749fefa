"""What runs on the submitter of a training job: the trainer package, staged weights and heads."""
