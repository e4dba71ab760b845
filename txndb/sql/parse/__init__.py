"""The SQL parser: text to syntax trees (`ast`)."""
