"""The engine of all stages that work photo by photo: readers, devices and finishers side by side, in order, in bounded memory."""
