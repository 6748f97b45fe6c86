//! `switchboard list`: which instances live in the namespace.

use serde::Serialize;

use crate::board;
use crate::failure::{Explain, Result};

/// A live instance, as `--json` shows it.
#[derive(Debug, Serialize)]
struct Row {
    address: String,
    pid: u32,
}

/// The text of the list: aligned columns, or with `json` an array of objects with `address` and `pid`.
///
/// # Errors
/// When the switchboard cannot be opened or its runtime directory not read.
pub fn run(json: bool) -> Result<String> {
    let live = board::open(None)?.list().explain(|| "cannot list the live instances".into())?;
    let mut rows: Vec<Row> =
        live.into_iter().map(|instance| Row { address: instance.address.to_string(), pid: instance.pid }).collect();
    rows.sort_by(|a, b| a.address.cmp(&b.address));
    if json {
        return serde_json::to_string(&rows).explain(|| "cannot write JSON".into());
    }
    Ok(table(&rows))
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no live instance".into();
    }
    let width = rows.iter().map(|row| row.address.len()).chain(["INSTANCE".len()]).max().unwrap_or(0);
    let lines = rows.iter().map(|row| format!("{:width$}  {:>7}", row.address, row.pid));
    let head = format!("{:width$}  {:>7}", "INSTANCE", "PID");
    std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_the_longest_address() {
        let rows = ["echo@1", "text.embed@blue"].map(|address| Row { address: address.into(), pid: 42 });
        assert_eq!(table(&rows), "INSTANCE             PID\necho@1                42\ntext.embed@blue       42");
    }

    #[test]
    fn an_empty_namespace_is_said_in_words() {
        assert_eq!(table(&[]), "no live instance");
    }
}
