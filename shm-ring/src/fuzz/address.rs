//! Names of queues.

use crate::error::Error;
use crate::mpsc::QueueAddress;

/// Any text as the address of a queue: refused with a short reason, or equal to what its own text parses to, and no way
/// out of the directory of sockets.
pub fn queue_addresses(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match text.parse::<QueueAddress>() {
        Ok(address) => {
            assert_eq!(address.to_string().parse::<QueueAddress>().ok(), Some(address.clone()));
            for part in [address.namespace(), address.name()] {
                assert!(!part.is_empty() && part.len() <= 64, "{part}");
                assert!(!part.contains(['/', '\0']) && part != "." && part != "..", "{part}");
            }
        }
        Err(Error::BadAddress { text: shown, .. }) => assert!(shown.chars().count() <= 80, "{shown}"),
        Err(error) => panic!("{error}"),
    }
}
