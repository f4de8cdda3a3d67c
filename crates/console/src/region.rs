//! What has changed since it was last sent: a bounded list of rectangles.
//!
//! Invariants: every pixel added is covered until [`Region::take`]; there are never more than [`Region::MOST`] rectangles. It
//! may cover more than was added: pixels are read when they are sent, so sending one too many costs time and harms nothing.

use crate::framebuffer::Rect;

/// The changed part of a screen.
#[derive(Debug, Default)]
pub struct Region {
    rects: Vec<Rect>,
}

impl Region {
    /// The most rectangles held. More are merged, the pair that wastes least first.
    pub const MOST: usize = 24;

    /// Whether nothing has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rects.is_empty()
    }

    /// Adds a rectangle, merged with those it fits together with.
    pub fn add(&mut self, mut rect: Rect) {
        if rect.area() == 0 {
            return;
        }
        // A merged rectangle may fit together with one that was passed already: start again.
        while let Some(at) = self.rects.iter().position(|held| joins(*held, rect)) {
            rect = rect.union(self.rects.swap_remove(at));
        }
        self.rects.push(rect);
        if self.rects.len() > Self::MOST {
            self.merge_cheapest();
        }
    }

    /// The rectangles, from the top down; none are left.
    pub fn take(&mut self) -> Vec<Rect> {
        let mut rects = std::mem::take(&mut self.rects);
        rects.sort_unstable_by_key(|rect| (rect.y, rect.x));
        rects
    }

    /// Forgets everything: the screen has another size.
    pub fn clear(&mut self) {
        self.rects.clear();
    }

    fn merge_cheapest(&mut self) {
        let mut best = (0, 1, u32::MAX);
        for (one, a) in self.rects.iter().enumerate() {
            for (other, b) in self.rects.iter().enumerate().skip(one + 1) {
                let waste = a.union(*b).area().saturating_sub(a.area() + b.area());
                if waste < best.2 {
                    best = (one, other, waste);
                }
            }
        }
        // The later one first, so that the index of the earlier one stays what it is.
        let b = self.rects.swap_remove(best.1);
        let a = self.rects.swap_remove(best.0);
        self.rects.push(a.union(b));
    }
}

/// Whether one rectangle costs no more than the two: they overlap much, or lie side by side.
fn joins(a: Rect, b: Rect) -> bool {
    a.union(b).area() <= a.area() + b.area()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_become_one() {
        let mut region = Region::default();
        for x in [0, 128, 64, 192] {
            region.add(Rect { x, y: 8, width: 64, height: 16 });
        }
        assert_eq!(region.take(), [Rect { x: 0, y: 8, width: 256, height: 16 }]);
        assert!(region.is_empty());
    }

    #[test]
    fn far_corners_stay_apart() {
        let mut region = Region::default();
        region.add(Rect { x: 0, y: 0, width: 8, height: 8 });
        region.add(Rect { x: 1900, y: 1000, width: 8, height: 8 });
        region.add(Rect { x: 5, y: 5, width: 0, height: 8 });
        assert_eq!(region.take().len(), 2);
    }

    proptest! {
        #[test]
        fn it_covers_what_was_added_and_stays_bounded(
            rects in proptest::collection::vec((0_u16..2000, 0_u16..2000, 0_u16..300, 0_u16..300), 0..200)
        ) {
            let rects: Vec<Rect> =
                rects.into_iter().map(|(x, y, width, height)| Rect { x, y, width, height }).collect();
            let mut region = Region::default();
            for rect in &rects {
                region.add(*rect);
                prop_assert!(region.rects.len() <= Region::MOST);
            }
            let held = region.take();
            for rect in rects.iter().filter(|rect| rect.area() > 0) {
                prop_assert!(held.iter().any(|h| h.contains(*rect)), "{rect:?}");
            }
        }
    }
}
