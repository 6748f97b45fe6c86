//! Plain old data: types whose values are their bytes, and whose every byte pattern is a value.
//!
//! A fixed layout needs no archive and no validation: one copy in, and out a comparison of lengths. Such a type must
//! say `repr(C)`, have no padding and no pointers; bytemuck's derives prove it. Alignment goes up to 8, that of a
//! payload in any ring.

use std::any::type_name;
use std::convert::Infallible;

use bytemuck::{AnyBitPattern, NoUninit};

use super::Malformed;
use super::ends::FillFrame;
use super::sender::{Scratch, SendError};
use super::tag::short_name;
use super::wire::{Prepared, Wire};
use crate::trust::Trust;

/// Largest alignment of plain data, in bytes: payloads of every ring begin at a multiple of it.
const MAX_ALIGN: usize = 8;

/// A value that is sent as its own bytes, without an archive.
///
/// `T` is read back as it was written, in the byte order and layout of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Plain<T>(pub T);

const fn check_align<T>() {
    assert!(align_of::<T>() <= MAX_ALIGN, "plain data is aligned to 8 bytes at most");
}

impl<T: NoUninit + AnyBitPattern> Wire for Plain<T> {
    type View = T;
    type Measure = Infallible;

    #[inline]
    fn prepare<'a>(&'a self, _: &'a mut Scratch) -> Result<Prepared<'a, Infallible>, SendError> {
        const { check_align::<T>() };
        Ok(Prepared::Payload(bytemuck::bytes_of(&self.0)))
    }

    fn fill<C: FillFrame>(&self, _: &mut Scratch, never: Infallible, _: C) -> Result<(), SendError> {
        match never {}
    }

    #[inline]
    fn read(payload: &[u8], _: Trust) -> Result<&T, Malformed> {
        const { check_align::<T>() };
        let wrong = |_| Malformed::Length { found: payload.len(), expected: size_of::<T>() };
        bytemuck::try_from_bytes(payload).map_err(wrong)
    }

    fn describe() -> String {
        let (name, size, align) = (short_name(type_name::<T>()), size_of::<T>(), align_of::<T>());
        format!("`{name}` (plain data, {size} bytes aligned to {align})")
    }
}

impl<T: NoUninit + AnyBitPattern> Wire for [T] {
    type View = [T];
    type Measure = Infallible;

    #[inline]
    fn prepare<'a>(&'a self, _: &'a mut Scratch) -> Result<Prepared<'a, Infallible>, SendError> {
        const { check_align::<T>() };
        Ok(Prepared::Payload(bytemuck::cast_slice(self)))
    }

    fn fill<C: FillFrame>(&self, _: &mut Scratch, never: Infallible, _: C) -> Result<(), SendError> {
        match never {}
    }

    #[inline]
    fn read(payload: &[u8], _: Trust) -> Result<&[T], Malformed> {
        const { assert!(size_of::<T>() != 0, "a slice of values without bytes has no length in bytes") };
        const { check_align::<T>() };
        let wrong = |_| Malformed::Length { found: payload.len(), expected: size_of::<T>() };
        bytemuck::try_cast_slice(payload).map_err(wrong)
    }

    fn describe() -> String {
        let (name, size, align) = (short_name(type_name::<T>()), size_of::<T>(), align_of::<T>());
        format!("`[{name}]` (plain data, items of {size} bytes aligned to {align})")
    }
}
