//! The demo's rival: the same services behind a plain Unix socket, in a process of their own.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use crate::data::{self, PIXELS};
use crate::failure::{Explain, Result};
use crate::knn::{Knn, Recognised};
use crate::serve::Service;
use crate::{cores, signals, uds};

/// Bytes of a reply of `digits`: as many as our service's reply has.
const REPLY_LEN: usize = size_of::<rkyv::Archived<Recognised>>();
const _: () = assert!(REPLY_LEN == 8, "`encode` writes eight bytes");

/// What the hidden `rival` was asked for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The service
    pub service: Service,
    /// Where to listen
    #[arg(long)]
    pub socket: PathBuf,
    /// The processor to run on
    #[arg(long)]
    pub cpu: Option<usize>,
}

/// Serves until standard input is closed.
///
/// # Errors
/// When the socket cannot be bound or fails.
pub fn run(args: &Args) -> Result<()> {
    signals::let_through()?;
    if let Some(cpu) = args.cpu {
        cores::pin_process(cpu)?;
    }
    signals::exit_when_stdin_closes();
    let knn = Knn::learn(data::learning());
    let what = || format!("cannot serve at `{}`", args.socket.display());
    let listener = UnixListener::bind(&args.socket).explain(what)?;
    // Nobody may be listening; then there is nobody to tell.
    let _ = writeln!(std::io::stdout(), "serving at {}", args.socket.display());
    let served = match args.service {
        Service::Echo => uds::serve(&listener, |request, reply| reply.extend_from_slice(request)),
        Service::Digits => uds::serve(&listener, |request, reply| reply.extend(recognise(&knn, request))),
    };
    served.explain(what)
}

/// The encoded reply; nothing for what is no image.
fn recognise(knn: &Knn, request: &[u8]) -> Vec<u8> {
    let image = <[u8; PIXELS]>::try_from(request).ok();
    let recognised = image.and_then(|image| knn.recognise(&image).ok());
    recognised.map(encode).map(Vec::from).unwrap_or_default()
}

fn encode(recognised: Recognised) -> [u8; REPLY_LEN] {
    let [d0, d1, d2, d3] = recognised.distance.to_le_bytes();
    [recognised.digit, recognised.votes, 0, 0, d0, d1, d2, d3]
}

/// Reads a reply of the rival's `digits`; `None` for what is none.
pub fn decode(reply: &[u8]) -> Option<Recognised> {
    let [digit, votes, _, _, distance @ ..] = *<&[u8; REPLY_LEN]>::try_from(reply).ok()?;
    Some(Recognised { digit, votes, distance: u32::from_le_bytes(distance) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_survives_its_encoding() {
        let recognised = Recognised { digit: 7, votes: 2, distance: 0x0102_0304 };
        assert_eq!(decode(&encode(recognised)), Some(recognised));
    }

    #[test]
    fn what_is_no_image_gets_an_empty_reply() {
        let knn = Knn::learn(data::learning());
        let replies = [&[0; 63][..], &[17; 64][..], &[]].map(|request| recognise(&knn, request));
        assert_eq!(replies.map(|reply| decode(&reply)), [None; 3]);
    }
}
