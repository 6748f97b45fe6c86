//! A producing process is killed at any moment: what it committed arrives once, in order and whole; then the ring ends.
