//! What runs out: descriptors, processes, the disk, the reader of an output.
