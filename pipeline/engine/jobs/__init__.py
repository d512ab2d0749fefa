"""Jobs: their resources, their queue, batch prediction, and their logs."""
