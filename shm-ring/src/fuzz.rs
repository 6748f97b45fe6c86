//! What the fuzz targets of this crate run: anything at all as input, and the properties that must hold whatever it is.
//!
//! Only in this crate's own tests and where `--cfg fuzzing` is set, as `cargo fuzz` does; `fuzz/fuzz_targets` calls these
//! functions from libFuzzer, and the tests below run the inputs that are stored in `fuzz/corpus` again. In the crate
//! because they hold images of shared memory, whose words nothing public lets anybody write.
//!
//! All memory is on the heap, where AddressSanitizer knows its bounds. All targets keep to one rule: an operation on
//! memory that anybody may have written answers, by a value or by a typed error, within a bounded number of looks at
//! that memory ([`crate::raw::steps`]).

mod address;
mod archive;
mod arena;
mod calls;
mod header;
mod operations;
mod ready;
mod rings;
mod script;

pub use address::queue_addresses;
pub use archive::archives;
pub use arena::arena_references;
pub use calls::{call_cells, call_slots};
pub use header::segment_headers;
pub use operations::{mpsc_operations, spsc_operations};
pub use ready::ready_sets;
pub use rings::{mpsc_images, spsc_images};

#[cfg(test)]
mod tests {
    use super::{
        archives, arena_references, call_cells, call_slots, mpsc_images, mpsc_operations, queue_addresses, ready_sets,
        segment_headers, spsc_images, spsc_operations,
    };

    /// A target.
    type Target = fn(&[u8]);

    /// Every target by the name of its folder in `fuzz/corpus`.
    const TARGETS: [(&str, Target); 11] = [
        ("segment_headers", segment_headers),
        ("spsc_images", spsc_images),
        ("mpsc_images", mpsc_images),
        ("call_cells", call_cells),
        ("call_slots", call_slots),
        ("arena_references", arena_references),
        ("ready_sets", ready_sets),
        ("archives", archives),
        ("queue_addresses", queue_addresses),
        ("spsc_operations", spsc_operations),
        ("mpsc_operations", mpsc_operations),
    ];

    #[test]
    fn stored_inputs_and_changed_ones_keep_every_property() {
        for (name, target) in TARGETS {
            test_support::corpus::replay(name, target);
        }
    }
}
