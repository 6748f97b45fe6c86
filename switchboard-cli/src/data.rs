//! The handwritten digits that come with the program; see `data/README.md` for their source and format.

/// Rows times columns of an image.
pub const PIXELS: usize = 64;

/// The darkest pixel; the lightest is 0.
pub const DARKEST: u8 = 16;

/// How many of the images are for learning; the rest are for recognising.
pub const LEARNT: usize = 1_347;

const RECORD: usize = PIXELS + 1;
static PACKED: &[u8] = include_bytes!("../data/digits.bin");
const _: () = assert!(PACKED.len() == 1_797 * RECORD, "data/digits.bin is not the file that data/README.md describes");

/// An image: eight rows of eight pixels, top row first, each 0 to [`DARKEST`].
pub type Image = [u8; PIXELS];

/// An image and the digit that its writer meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example {
    /// What was written.
    pub image: Image,
    /// 0 to 9.
    pub digit: u8,
}

/// The 1,347 examples to learn from.
pub fn learning() -> Vec<Example> {
    examples().take(LEARNT).collect()
}

/// The 450 examples to recognise, none of which is in [`learning`].
pub fn testing() -> Vec<Example> {
    examples().skip(LEARNT).collect()
}

fn examples() -> impl Iterator<Item = Example> {
    let (records, _) = PACKED.as_chunks::<RECORD>();
    records.iter().map(|record| {
        let [image @ .., digit] = *record;
        Example { image, digit }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_1347_images_to_learn_and_450_to_recognise() {
        assert_eq!((learning().len(), testing().len()), (1_347, 450));
    }

    #[test]
    fn every_pixel_and_digit_is_in_its_range() {
        let bad = examples().position(|e| e.digit > 9 || e.image.iter().any(|pixel| *pixel > DARKEST));
        assert_eq!(bad, None);
    }

    #[test]
    fn every_digit_occurs_about_equally_often() {
        for digit in 0..10 {
            let count = examples().filter(|e| e.digit == digit).count();
            assert!((170..=190).contains(&count), "{count} images of the digit {digit}");
        }
    }
}
