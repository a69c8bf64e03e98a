"""`tfwsss init`: a configuration for photos that somebody has."""
