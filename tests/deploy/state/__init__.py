"""A state directory that an older version has made."""
