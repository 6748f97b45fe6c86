//! Opening the switchboard as the environment says.

use std::time::Duration;

use switchboard::Switchboard;

use crate::failure::{Explain, Result};

/// Names the directory in which live instances are found.
pub const RUNTIME_DIR: &str = "SWITCHBOARD_RUNTIME_DIR";

/// Names the namespace in which services are named.
pub const NAMESPACE: &str = "SWITCHBOARD_NAMESPACE";

/// Opens the switchboard of the environment; `spin` says how long a waiter polls before it sleeps.
///
/// # Errors
/// When the runtime directory cannot be used or the namespace is no name.
pub fn open(spin: Option<Duration>) -> Result<Switchboard> {
    let builder = Switchboard::builder();
    let builder = match spin {
        Some(spin) => builder.spin(spin),
        None => builder,
    };
    builder.open().explain(|| "cannot open the switchboard".into())
}
