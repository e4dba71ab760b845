"""The PostgreSQL wire protocol as a pure codec, both roles."""
