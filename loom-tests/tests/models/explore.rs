//! Runs a model and says how much of it there was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Explores a model; `preemptions` bounds how often a running thread is interrupted (`None`: no bound).
///
/// Prints one line with the number of executions, which `cargo xtask test` repeats in its summary.
pub fn explore(name: &str, preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 20_000;
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("explored {name}: {} executions", executions.load(Ordering::Relaxed));
}
