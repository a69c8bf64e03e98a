"""What is on disk: atomic files, and the arrays and label maps that stages leave."""
