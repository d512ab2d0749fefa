"""Everything that lies in a bucket, typed: every path and every record."""
