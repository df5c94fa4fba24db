"""The database: connections, two drivers, the schema and its migrations."""
