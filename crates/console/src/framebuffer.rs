//! The screen as it is now. Pixels are little-endian `0x??RRGGBB`, as QEMU keeps them, so that taking them over is a copy.
//!
//! Invariant: `pixels.len() == width * height`; every rectangle is checked against the size before it is used.

/// A part of the screen, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// Left edge.
    pub x: u16,
    /// Upper edge.
    pub y: u16,
    /// Pixels across.
    pub width: u16,
    /// Pixels down.
    pub height: u16,
}

impl Rect {
    /// Number of pixels.
    #[must_use]
    pub const fn area(self) -> u32 {
        self.width as u32 * self.height as u32
    }

    /// The edges past the last pixel, to the right and below.
    pub(crate) const fn end(self) -> (u32, u32) {
        (self.x as u32 + self.width as u32, self.y as u32 + self.height as u32)
    }

    /// The smallest rectangle that holds both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        let (x, y) = (self.x.min(other.x), self.y.min(other.y));
        let (right, below) = (self.end().0.max(other.end().0), self.end().1.max(other.end().1));
        let size = |end: u32, start: u16| u16::try_from(end - u32::from(start)).unwrap_or(u16::MAX);
        Self { x, y, width: size(right, x), height: size(below, y) }
    }

    /// Whether `other` lies within.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.x <= other.x
            && self.y <= other.y
            && self.end().0 >= other.end().0
            && self.end().1 >= other.end().1
    }
}

/// A rectangle that does not lie on the screen, or data of another size than its rectangle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rectangle outside of the screen")]
pub struct OutsideError;

/// The pixels of a screen.
#[derive(Debug, Default)]
pub struct Framebuffer {
    width: u16,
    height: u16,
    pixels: Vec<u32>,
}

impl Framebuffer {
    /// A black screen.
    #[must_use]
    pub fn new(width: u16, height: u16) -> Self {
        Self { width, height, pixels: vec![0; usize::from(width) * usize::from(height)] }
    }

    /// Pixels across and down.
    #[must_use]
    pub const fn size(&self) -> (u16, u16) {
        (self.width, self.height)
    }

    /// All of it.
    #[must_use]
    pub const fn bounds(&self) -> Rect {
        Rect { x: 0, y: 0, width: self.width, height: self.height }
    }

    /// Takes over pixels that arrived as bytes B, G, R, unused.
    ///
    /// # Errors
    /// When the rectangle is not on the screen or the data is not its size.
    pub fn put(&mut self, rect: Rect, bgrx: &[u8]) -> Result<(), OutsideError> {
        if !self.bounds().contains(rect) || bgrx.len() != rect.area() as usize * 4 {
            return Err(OutsideError);
        }
        if rect.area() == 0 {
            return Ok(());
        }
        for (row, source) in self.rows_mut(rect).zip(bgrx.chunks_exact(usize::from(rect.width) * 4)) {
            for (pixel, bytes) in row.iter_mut().zip(source.as_chunks::<4>().0) {
                *pixel = u32::from_le_bytes(*bytes);
            }
        }
        Ok(())
    }

    /// Copies `from` to the rectangle `to` of the same size; they may overlap.
    ///
    /// # Errors
    /// When one of them is not on the screen or their sizes differ.
    pub fn copy(&mut self, to: Rect, from: Rect) -> Result<(), OutsideError> {
        let fits = self.bounds().contains(to)
            && self.bounds().contains(from)
            && (to.width, to.height) == (from.width, from.height);
        if !fits {
            return Err(OutsideError);
        }
        let (stride, width) = (usize::from(self.width), usize::from(to.width));
        let mut move_row = |row: u16| {
            let source = usize::from(from.y + row) * stride + usize::from(from.x);
            let target = usize::from(to.y + row) * stride + usize::from(to.x);
            self.pixels.copy_within(source..source + width, target);
        };
        // Rows that would be overwritten before they are read go first.
        if to.y > from.y {
            (0..to.height).rev().for_each(&mut move_row);
        } else {
            (0..to.height).for_each(&mut move_row);
        }
        Ok(())
    }

    /// The rows of a rectangle, cut to the screen.
    pub fn rows(&self, rect: Rect) -> impl Iterator<Item = &[u32]> {
        let x = usize::from(rect.x.min(self.width));
        let end = usize::from(self.width).min(x + usize::from(rect.width));
        self.pixels
            .chunks_exact(usize::from(self.width).max(1))
            .skip(usize::from(rect.y))
            .take(usize::from(rect.height))
            .map(move |row| &row[x..end])
    }

    fn rows_mut(&mut self, rect: Rect) -> impl Iterator<Item = &mut [u32]> {
        let (x, end) = (usize::from(rect.x), usize::from(rect.x) + usize::from(rect.width));
        self.pixels
            .chunks_exact_mut(usize::from(self.width).max(1))
            .skip(usize::from(rect.y))
            .take(usize::from(rect.height))
            .map(move |row| &mut row[x..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: u16, y: u16, width: u16, height: u16) -> Rect {
        Rect { x, y, width, height }
    }

    fn counted() -> Framebuffer {
        let mut screen = Framebuffer::new(4, 4);
        let bytes: Vec<u8> = (0_u32..16).flat_map(u32::to_le_bytes).collect();
        screen.put(rect(0, 0, 4, 4), &bytes).unwrap();
        screen
    }

    #[test]
    fn overlapping_copies_read_before_they_write() {
        let mut down = counted();
        down.copy(rect(0, 1, 4, 3), rect(0, 0, 4, 3)).unwrap();
        assert_eq!(down.pixels, [0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        let mut up = counted();
        up.copy(rect(0, 0, 3, 3), rect(1, 1, 3, 3)).unwrap();
        assert_eq!(up.pixels, [5, 6, 7, 3, 9, 10, 11, 7, 13, 14, 15, 11, 12, 13, 14, 15]);
        let mut right = counted();
        right.copy(rect(1, 0, 3, 4), rect(0, 0, 3, 4)).unwrap();
        assert_eq!(right.pixels[..4], [0, 0, 1, 2]);
    }

    #[test]
    fn nothing_outside_is_touched_or_read() {
        let mut screen = counted();
        assert_eq!(screen.put(rect(3, 0, 2, 1), &[0; 8]), Err(OutsideError));
        assert_eq!(screen.put(rect(0, 0, 2, 1), &[0; 7]), Err(OutsideError));
        assert_eq!(screen.put(rect(u16::MAX, u16::MAX, u16::MAX, 1), &[]), Err(OutsideError));
        assert_eq!(screen.copy(rect(0, 0, 2, 2), rect(3, 3, 2, 2)), Err(OutsideError));
        assert_eq!(screen.copy(rect(0, 0, 2, 2), rect(0, 0, 1, 2)), Err(OutsideError));
        assert_eq!(screen.put(rect(4, 4, 0, 0), &[]), Ok(()));
        assert_eq!(screen.rows(rect(3, 3, 9, 9)).map(<[u32]>::to_vec).collect::<Vec<_>>(), [vec![15]]);
        assert_eq!(screen.rows(rect(9, 9, 9, 9)).count(), 0);
    }
}
