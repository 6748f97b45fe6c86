//! The layout of a ring that carries messages of one type, known to everybody who opens it.

use std::fmt;
use std::marker::PhantomData;

use super::{Message, Receiver, Sender, TypeTag};
use crate::error::Error;
use crate::segment::{Layout, Segment};

/// Sets the kind of a ring's segment with a tag apart from that of the ring alone.
pub(crate) const TYPED: u64 = 0x7479_7065 << 32; // "type"

/// The layout `L` of a ring for messages of type `T`: that of the ring, and the [`TypeTag`] of `T` behind it.
///
/// The maker's segment carries its tag from the first moment; [`Segment::open`] and every other way to open it compare
/// that with the opener's, and answer [`Error::TypeMismatch`].
pub struct Typed<T: Message + ?Sized, L> {
    ring: L,
    of: PhantomData<fn(&T)>,
}

impl<T: Message + ?Sized, L: Layout> Typed<T, L> {
    /// A ring of the layout `ring` for messages of type `T`.
    pub fn new(ring: L) -> Self {
        Self { ring, of: PhantomData }
    }

    /// The layout of the ring.
    pub fn ring(&self) -> &L {
        &self.ring
    }
}

impl<T: Message + ?Sized, L: Layout> Layout for Typed<T, L> {
    /// Apart from the kind of the ring alone, whose segments carry no tag.
    const KIND: u64 = L::KIND ^ TYPED;

    fn params(&self) -> [u64; 8] {
        self.ring.params()
    }

    fn from_params(params: &[u64; 8]) -> Result<Self, Error> {
        Ok(Self::new(L::from_params(params)?))
    }

    fn bytes(&self) -> usize {
        self.ring.bytes().next_multiple_of(8) + TypeTag::BYTES
    }

    fn note(&self) -> Option<[u8; TypeTag::BYTES]> {
        Some(TypeTag::of::<T>().to_bytes())
    }

    fn check_note(&self, theirs: &[u8; TypeTag::BYTES]) -> Result<(), Error> {
        TypeTag::of::<T>().check(theirs)
    }
}

impl<T: Message + ?Sized, L: Layout> Segment<Typed<T, L>> {
    /// Attaches a sender of `T` by the ring's own way to attach a producer, which gets the ring's part of the segment.
    ///
    /// # Errors
    /// Those of `attach`.
    pub fn sender<E>(&self, attach: impl FnOnce(&Segment<L>) -> Result<E, Error>) -> Result<Sender<T, E>, Error> {
        Ok(Sender::new(attach(&self.with_layout(self.layout().ring.clone()))?))
    }

    /// Attaches a receiver of `T` by the ring's own way to attach a consumer, which gets the ring's part of the segment.
    ///
    /// # Errors
    /// Those of `attach`.
    pub fn receiver<E>(&self, attach: impl FnOnce(&Segment<L>) -> Result<E, Error>) -> Result<Receiver<T, E>, Error> {
        Ok(Receiver::new(attach(&self.with_layout(self.layout().ring.clone()))?))
    }
}

impl<T: Message + ?Sized, L: Clone> Clone for Typed<T, L> {
    fn clone(&self) -> Self {
        Self { ring: self.ring.clone(), of: PhantomData }
    }
}

impl<T: Message + ?Sized, L: fmt::Debug> fmt::Debug for Typed<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").field("of", &std::any::type_name::<T>()).field("ring", &self.ring).finish()
    }
}
