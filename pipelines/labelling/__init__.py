"""The engine of all stages that work photo by photo: readers, devices and finishers side by side, in order, in bounded memory.

There are more files here than in other folders: each way of doing the work, in threads, by shards and on a Ray cluster, has its own.
"""
