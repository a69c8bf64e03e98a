"""Who works photo by photo: threads of this process, a shard among several processes, or the actors of a Ray cluster.

`work.py` says what there is to do for a photo, as three steps; `threads.py` runs them side by side, in order, in bounded memory, in every
process that does any; `executor.py` chooses who that is.
"""
