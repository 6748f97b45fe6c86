//! The 64 bytes that every subject carries, and the proof that they were written and read.
//!
//! The peer derives each word of the answer from the word it received, and refuses a request whose checksum is wrong;
//! the caller compares the answer with what it must be. A subject that skipped a copy, answered an older request or
//! tore one would fail the run instead of winning it.

/// The payload of a request and of a reply: eight words, 64 bytes.
pub type Payload = [u64; 8];

/// An odd constant that spreads consecutive numbers over all bits (2^64 divided by the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// What the peer adds to each word, so that an echoed request is not a correct answer.
const ANSWER: u64 = 0x0101_0101_0101_0101;

/// Builds the request with this number: seven words that depend on it and their checksum.
#[must_use]
#[inline]
pub fn request(number: u64) -> Payload {
    let mut words = [0; 8];
    let mut word = number.wrapping_mul(SPREAD);
    for slot in &mut words[..7] {
        *slot = word;
        word = word.wrapping_add(SPREAD);
    }
    words[7] = checksum(&words);
    words
}

/// Answers a request, or `None` if its checksum is wrong.
#[must_use]
#[inline]
pub fn answer(request: &Payload) -> Option<Payload> {
    (request[7] == checksum(request)).then(|| request.map(|word| word.wrapping_add(ANSWER)))
}

/// Says whether `reply` is the answer to the request with this number.
#[must_use]
#[inline]
pub fn is_answer_to(number: u64, reply: &Payload) -> bool {
    *reply == request(number).map(|word| word.wrapping_add(ANSWER))
}

/// The bytes of a payload, for transports that carry bytes.
#[must_use]
#[inline]
pub fn to_bytes(payload: &Payload) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(payload) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// The payload in these bytes.
#[must_use]
#[inline]
pub fn from_bytes(bytes: &[u8; 64]) -> Payload {
    let mut payload = [0; 8];
    for (word, chunk) in payload.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*chunk);
    }
    payload
}

#[inline]
fn checksum(words: &Payload) -> u64 {
    words[..7].iter().fold(0, |sum, word| sum.rotate_left(7) ^ word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_another_request_is_refused() {
        let reply = answer(&request(7)).expect("a request as built has a right checksum");
        assert!(is_answer_to(7, &reply));
        assert!(!is_answer_to(8, &reply));
        assert!(!is_answer_to(7, &request(7)));
    }

    #[test]
    fn a_request_with_one_flipped_bit_is_not_answered() {
        let mut torn = request(7);
        torn[3] ^= 1 << 40;
        assert_eq!(answer(&torn), None);
    }

    #[test]
    fn bytes_carry_the_payload_unchanged() {
        let payload = request(u64::MAX);
        assert_eq!(from_bytes(&to_bytes(&payload)), payload);
    }
}
