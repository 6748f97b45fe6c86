//! The demo's calls to the rival: the same services behind a plain Unix socket.

use super::bare::Body;
use super::stage::{Actor, Stage};
use crate::data::Image;
use crate::failure::{Explain, Failure, Result};
use crate::knn::Recognised;
use crate::serve::Service;
use crate::{rival, uds};

/// A rival's process and our connection to it.
#[derive(Debug)]
pub struct Socket {
    _actor: Actor,
    client: uds::Client,
}

impl Socket {
    /// Starts the process, on processor `cpu` if given, and connects.
    ///
    /// # Errors
    /// When either fails.
    pub fn start(stage: &Stage, service: Service, cpu: Option<usize>) -> Result<Self> {
        let path = stage.path(&format!("{}.sock", service.name()));
        let path_text = path.to_str().ok_or_else(|| Failure::new(format!("`{}` is not UTF-8", path.display())))?;
        let mut args = ["rival", service.name(), "--socket", path_text].map(String::from).to_vec();
        if let Some(cpu) = cpu {
            args.extend(["--cpu".into(), cpu.to_string()]);
        }
        let actor = stage.start(&args)?;
        let client = uds::Client::connect(&path).explain(|| format!("cannot connect to `{path_text}`"))?;
        Ok(Self { _actor: actor, client })
    }

    /// Asks for an image.
    ///
    /// # Errors
    /// When the process is gone or does not reply with a digit.
    pub fn recognise(&mut self, image: &Image) -> Result<Recognised> {
        let reply = self.client.call(image).explain(|| "a call over the socket failed".into())?;
        let len = reply.len();
        rival::decode(reply).ok_or_else(|| Failure::new(format!("a reply of {len} bytes from the socket is no digit")))
    }

    /// Sends 64 bytes and gets them back.
    ///
    /// # Errors
    /// When the process is gone or replies with another length.
    pub fn echo(&mut self, body: Body) -> Result<Body> {
        let mut bytes = [0; size_of::<Body>()];
        for (to, word) in bytes.chunks_exact_mut(8).zip(body) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        let reply = self.client.call(&bytes).explain(|| "a call over the socket failed".into())?;
        let (words, rest) = reply.as_chunks::<8>();
        match <[[u8; 8]; 8]>::try_from(words) {
            Ok(words) if rest.is_empty() => Ok(words.map(u64::from_le_bytes)),
            _ => Err(Failure::new(format!("sent 64 bytes over the socket, got back {}", reply.len()))),
        }
    }
}
