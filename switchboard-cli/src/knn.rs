//! Recognition by the nearest neighbours: an image is what most of the learnt images closest to it are.
//!
//! Distances are sums of squared pixel differences in integers, so every machine gives the same answer.

use crate::data::{DARKEST, Example, Image, PIXELS};

/// How many neighbours vote.
pub const NEIGHBOURS: usize = 3;

/// What was recognised, and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Recognised {
    /// 0 to 9.
    pub digit: u8,
    /// How many of the [`NEIGHBOURS`] are images of this digit; at least 1.
    pub votes: u8,
    /// Squared distance to the nearest of these; at most 64 × 16² = 16,384.
    pub distance: u32,
}

/// An image that cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("pixel {at} is {value}, pixels go from 0 to {DARKEST}")]
pub struct BadPixel {
    /// Index of the first bad pixel, row by row.
    pub at: usize,
    /// Its value.
    pub value: u8,
}

/// Learnt images.
#[derive(Debug)]
pub struct Knn {
    learnt: Vec<Example>,
}

impl Knn {
    /// Learns by heart.
    ///
    /// # Panics
    /// If there are fewer than [`NEIGHBOURS`] examples.
    pub fn learn(examples: Vec<Example>) -> Self {
        assert!(examples.len() >= NEIGHBOURS, "{} examples cannot give {NEIGHBOURS} neighbours", examples.len());
        Self { learnt: examples }
    }

    /// Says which digit the image shows. Cost: one distance per learnt image, no allocation.
    ///
    /// # Errors
    /// [`BadPixel`] if a pixel is out of its range.
    pub fn recognise(&self, image: &Image) -> Result<Recognised, BadPixel> {
        match image.iter().position(|pixel| *pixel > DARKEST) {
            Some(at) => Err(BadPixel { at, value: image[at] }),
            None => Ok(vote(nearest(image, self.learnt.iter()))),
        }
    }

    /// Recognises learnt image number `index % len()` by all the others and says whether that was right.
    pub fn recognises_its_own(&self, index: usize) -> bool {
        let index = index % self.learnt.len();
        let asked = self.learnt[index];
        let others = self.learnt[..index].iter().chain(&self.learnt[index + 1..]);
        vote(nearest(&asked.image, others)).digit == asked.digit
    }
}

/// A learnt image by what counts in the vote.
#[derive(Clone, Copy)]
struct Neighbour {
    distance: u32,
    digit: u8,
}

/// The closest examples, closest first; of equally close ones the earlier learnt.
fn nearest<'a>(image: &Image, examples: impl Iterator<Item = &'a Example>) -> [Neighbour; NEIGHBOURS] {
    let mut best = [Neighbour { distance: u32::MAX, digit: 0 }; NEIGHBOURS];
    for example in examples {
        let found = Neighbour { distance: squared_distance(image, &example.image), digit: example.digit };
        if found.distance < best[NEIGHBOURS - 1].distance {
            let place = best.iter().position(|held| found.distance < held.distance).unwrap_or(NEIGHBOURS - 1);
            best[place..].rotate_right(1);
            best[place] = found;
        }
    }
    best
}

fn squared_distance(a: &Image, b: &Image) -> u32 {
    let mut sum = 0;
    for i in 0..PIXELS {
        // At most 16² each, so 16 bits hold the square and the compiler can use the widest multiply it has.
        let difference = i16::from(a[i]) - i16::from(b[i]);
        sum += u32::from((difference * difference).unsigned_abs());
    }
    sum
}

/// The digit with the most votes; of equally many, that of the closest neighbour.
fn vote(neighbours: [Neighbour; NEIGHBOURS]) -> Recognised {
    let votes_for = |digit| neighbours.iter().filter(|neighbour| neighbour.digit == digit).count();
    let mut winner = neighbours[0];
    for neighbour in &neighbours[1..] {
        if votes_for(neighbour.digit) > votes_for(winner.digit) {
            winner = *neighbour;
        }
    }
    Recognised { digit: winner.digit, votes: votes_for(winner.digit) as u8, distance: winner.distance }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data;

    fn plain(pixel: u8, digit: u8) -> Example {
        Example { image: [pixel; PIXELS], digit }
    }

    #[test]
    fn at_least_95_of_100_test_images_are_recognised() {
        let knn = Knn::learn(data::learning());
        let tests = data::testing();
        let right = tests.iter().filter(|test| knn.recognise(&test.image).is_ok_and(|g| g.digit == test.digit)).count();
        assert!(right * 100 >= 95 * tests.len(), "{right} of {}", tests.len());
    }

    #[test]
    fn a_learnt_image_is_its_own_nearest_neighbour() {
        let examples = data::learning();
        let image = examples[17].image;
        let guess = Knn::learn(examples).recognise(&image).expect("a learnt image is an image");
        assert_eq!(guess.distance, 0);
    }

    #[test]
    fn most_votes_win_over_the_closest() {
        let knn = Knn::learn(vec![plain(1, 4), plain(2, 8), plain(3, 8), plain(16, 4)]);
        assert_eq!(knn.recognise(&[0; PIXELS]), Ok(Recognised { digit: 8, votes: 2, distance: 4 * 64 }));
    }

    #[test]
    fn the_closest_wins_when_all_have_one_vote() {
        let knn = Knn::learn(vec![plain(9, 1), plain(6, 2), plain(7, 3)]);
        assert_eq!(knn.recognise(&[0; PIXELS]), Ok(Recognised { digit: 2, votes: 1, distance: 36 * 64 }));
    }

    #[test]
    fn an_image_is_not_recognised_by_itself() {
        let knn = Knn::learn(vec![plain(0, 1), plain(5, 2), plain(6, 2), plain(7, 2)]);
        assert!(!knn.recognises_its_own(0));
        assert!(knn.recognises_its_own(1));
    }

    #[test]
    fn a_pixel_out_of_range_is_named() {
        let mut image = [0; PIXELS];
        image[9] = 17;
        let knn = Knn::learn(data::learning());
        assert_eq!(knn.recognise(&image), Err(BadPixel { at: 9, value: 17 }));
    }
}
