"""What `tfwsss bench-export` measures."""
