"""What the stages do with photos: the networks on their devices, CAMs, the walk, and the files that say which photos are done."""
