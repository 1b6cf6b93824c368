"""The values of tables: their types, and how they are read and written exactly."""
