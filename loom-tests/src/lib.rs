//! Models of shm-ring's algorithms under [loom](https://docs.rs/loom): every interleaving and every weak-memory
//! outcome within a bound, over the product's own code.
//!
//! The models are in `tests/models`; they are empty unless built with `--cfg loom`. `twins.txt` names, for single
//! orderings and fences of the product, the model that must fail without them. `cargo xtask test` runs both.
#![forbid(unsafe_code)]
