"""The frozen networks: a table of them, where their weights come from, how they are built."""
