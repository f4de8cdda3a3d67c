//! What goes to a viewer: binary messages of little-endian 32-bit words, so that a canvas reads them without moving a byte.
//!
//! ```text
//! size     1, width | height << 16
//! picture  2, number of rectangles, then each: x | y << 16, width | height << 16, words of its pixels, pixels
//! cursor   3, hot x | hot y << 16, width | height << 16, width × height pixels (0x0: the guest hides its pointer)
//! ```
//! A viewer answers each picture with `drawn` ([`voidvm_model::input::ViewerMessage`]); the others are not answered. A size
//! message makes the screen black; pictures that fill it follow.
//!
//! A pixel is `A << 24 | B << 16 | G << 8 | R`: bytes R, G, B, A in memory. The pixels of a rectangle are a list of pieces,
//! from left to right and from the top down, each begun by a word `kind << 30 | count`:
//! ```text
//! 0 literal  count × 3 bytes R, G, B, filled up with zeroes to a whole word
//! 1 run      one pixel, count times
//! 2 above    the count pixels that lie one row higher
//! ```
//! Lossless. On one computer the bytes through the WebSocket are what a picture costs, and flat and repeated parts of a screen
//! are most of it; what does not repeat still loses its unused fourth byte.

use bytes::Bytes;

use crate::framebuffer::{Framebuffer, Rect};

const SIZE: u32 = 1;
const PICTURE: u32 = 2;
const CURSOR: u32 = 3;

const LITERAL: u32 = 0;
const RUN: u32 = 1;
const ABOVE: u32 = 2;

/// Shorter repetitions cost more as pieces of their own than within a literal.
const SHORTEST: usize = 6;

const OPAQUE: u32 = 0xff00_0000;

/// The screen has this size now.
#[must_use]
pub fn size(width: u16, height: u16) -> Bytes {
    words(&[SIZE, pair(width, height)])
}

/// The guest's pointer looks like this: pixels as bytes B, G, R, A.
#[must_use]
pub fn cursor(shape: Rect, bgra: &[u8]) -> Bytes {
    let mut message = vec![CURSOR, pair(shape.x, shape.y), pair(shape.width, shape.height)];
    message.extend(bgra.as_chunks::<4>().0.iter().map(|pixel| swap(u32::from_le_bytes(*pixel))));
    words(&message)
}

/// These parts of the screen, as they are now.
#[derive(Debug, Default)]
pub struct PictureEncoder {
    /// The pixels of the rectangle at work; kept for the next one.
    pixels: Vec<u32>,
}

impl PictureEncoder {
    /// One picture message. Rectangles are cut to the screen; those outside are left out.
    pub fn encode(&mut self, screen: &Framebuffer, rects: &[Rect]) -> Bytes {
        let mut out = Vec::with_capacity(4096);
        push(&mut out, PICTURE);
        push(&mut out, 0);
        let mut count = 0;
        for rect in rects {
            let (width, height) = screen.size();
            let rect = Rect {
                width: rect.width.min(width.saturating_sub(rect.x)),
                height: rect.height.min(height.saturating_sub(rect.y)),
                ..*rect
            };
            if rect.area() == 0 {
                continue;
            }
            count += 1;
            self.pixels.clear();
            self.pixels.reserve(rect.area() as usize);
            for row in screen.rows(rect) {
                self.pixels.extend(row.iter().map(|pixel| swap(*pixel) | OPAQUE));
            }
            push(&mut out, pair(rect.x, rect.y));
            push(&mut out, pair(rect.width, rect.height));
            let at = out.len();
            push(&mut out, 0);
            pixels(&self.pixels, usize::from(rect.width), &mut out);
            let length = word_count(out.len() - at - 4);
            out[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }
        out[4..8].copy_from_slice(&u32::to_le_bytes(count));
        out.into()
    }
}

/// Writes pixels as pieces.
fn pixels(pixels: &[u32], width: usize, out: &mut Vec<u8>) {
    let mut literal = 0;
    let mut at = 0;
    while at < pixels.len() {
        let run = same(&pixels[at..], pixels[at]);
        let above = if at >= width { equal(&pixels[at..], &pixels[at - width..]) } else { 0 };
        let best = run.max(above);
        if best < SHORTEST {
            // Where nothing repeats, look less often: noise must not cost more than copying it.
            at += best.max(1) + (at - literal) / 32;
            continue;
        }
        push_literal(&pixels[literal..at], out);
        if above >= run {
            push(out, ABOVE << 30 | word_count(above * 4));
        } else {
            push(out, RUN << 30 | word_count(run * 4));
            push(out, pixels[at]);
        }
        at += best;
        literal = at;
    }
    push_literal(&pixels[literal..], out);
}

fn same(pixels: &[u32], value: u32) -> usize {
    pixels.iter().position(|pixel| *pixel != value).unwrap_or(pixels.len())
}

fn equal(pixels: &[u32], above: &[u32]) -> usize {
    pixels.iter().zip(above).position(|(a, b)| a != b).unwrap_or(pixels.len())
}

fn push_literal(pixels: &[u32], out: &mut Vec<u8>) {
    if pixels.is_empty() {
        return;
    }
    push(out, LITERAL << 30 | word_count(pixels.len() * 4));
    let start = out.len();
    out.resize(start + (pixels.len() * 3).next_multiple_of(4), 0);
    // Four pixels are three words.
    let (fours, rest) = pixels.as_chunks::<4>();
    let (targets, tail) = out[start..].split_at_mut(fours.len() * 12);
    for ([a, b, c, d], target) in fours.iter().zip(targets.as_chunks_mut::<12>().0) {
        target[..4].copy_from_slice(&((a & 0xff_ffff) | b << 24).to_le_bytes());
        target[4..8].copy_from_slice(&((b >> 8 & 0xffff) | c << 16).to_le_bytes());
        target[8..].copy_from_slice(&((c >> 16 & 0xff) | d << 8).to_le_bytes());
    }
    for (pixel, target) in rest.iter().zip(tail.chunks_exact_mut(3)) {
        target.copy_from_slice(&pixel.to_le_bytes()[..3]);
    }
}

/// Swaps red and blue; alpha stays.
const fn swap(pixel: u32) -> u32 {
    (pixel & 0xff00_ff00) | (pixel & 0xff) << 16 | (pixel >> 16) & 0xff
}

const fn pair(low: u16, high: u16) -> u32 {
    low as u32 | (high as u32) << 16
}

fn push(out: &mut Vec<u8>, word: u32) {
    out.extend_from_slice(&word.to_le_bytes());
}

/// How many words so many bytes are. A screen has at most 8,294,400 pixels: far below the 30 bits of a count.
fn word_count(bytes: usize) -> u32 {
    u32::try_from(bytes / 4).unwrap_or(u32::MAX >> 2)
}

fn words(words: &[u32]) -> Bytes {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
