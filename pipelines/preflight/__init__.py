"""What can be known before anything is computed: paths, start weights, permissions, crops, disk space, the tracking server. Writes nothing."""
