"""`tfwsss labels`: pseudo labels to annotation tools, and corrected ones back."""
