//! The wire: lossless for every picture, no larger than it has to be, and the same for the canvas in TypeScript (golden file).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::*;
use support::Canvas;
use voidvm_console::wire::{PictureEncoder, cursor, size};
use voidvm_console::{Framebuffer, Rect};

fn words(bytes: &[u8]) -> Vec<u32> {
    assert_eq!(bytes.len() % 4, 0);
    bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

fn screen(width: u16, height: u16, pixel: impl Fn(u32, u32) -> u32) -> Framebuffer {
    let mut screen = Framebuffer::new(width, height);
    let bytes: Vec<u8> = (0..u32::from(height))
        .flat_map(|y| (0..u32::from(width)).map(move |x| (x, y)))
        .flat_map(|(x, y)| pixel(x, y).to_le_bytes())
        .collect();
    screen.put(screen.bounds(), &bytes).unwrap();
    screen
}

fn shown(screen: &Framebuffer) -> Canvas {
    let (width, height) = screen.size();
    let mut canvas = Canvas::default();
    canvas.draw(&words(&size(width, height)));
    canvas.draw(&words(&PictureEncoder::default().encode(screen, &[screen.bounds()])));
    canvas
}

fn assert_same(canvas: &Canvas, screen: &Framebuffer) {
    let wanted = screen.rows(screen.bounds()).flatten();
    for (drawn, pixel) in canvas.pixels.iter().zip(wanted) {
        let [b, g, r, _] = pixel.to_le_bytes();
        assert_eq!(drawn.to_le_bytes(), [r, g, b, 255]);
    }
}

/// Without a generator of its own: the same noise everywhere.
fn noise(x: u32, y: u32) -> u32 {
    let mut value = x.wrapping_mul(0x9e37_79b9) ^ y.wrapping_mul(0x85eb_ca6b);
    value = (value ^ value >> 15).wrapping_mul(0x2c1b_3c6d);
    (value ^ value >> 12).wrapping_mul(0x297a_2d39)
}

#[test]
fn flat_screens_are_small_and_noise_is_three_quarters() {
    let mut encoder = PictureEncoder::default();
    let flat = screen(1920, 1080, |_, _| 0x0020_3040);
    assert!(encoder.encode(&flat, &[flat.bounds()]).len() < 64);
    let bars = screen(1280, 800, |x, _| x / 7 * 0x01_0307);
    assert!(encoder.encode(&bars, &[bars.bounds()]).len() < 4000);
    let noisy = screen(1280, 800, noise);
    let length = encoder.encode(&noisy, &[noisy.bounds()]).len();
    assert!(length <= 1280 * 800 * 3 + 64, "{length}");
    for screen in [&flat, &bars, &noisy] {
        assert_same(&shown(screen), screen);
    }
}

#[test]
fn rectangles_beyond_the_screen_are_cut() {
    let screen = screen(10, 10, noise);
    let rects = [
        Rect { x: 8, y: 8, width: 100, height: 100 },
        Rect { x: 10, y: 0, width: 5, height: 5 },
        Rect { x: 0, y: u16::MAX, width: u16::MAX, height: u16::MAX },
    ];
    let message = words(&PictureEncoder::default().encode(&screen, &rects));
    assert_eq!(message[..4], [2, 1, 8 | 8 << 16, 2 | 2 << 16]);
}

proptest! {
    #[test]
    fn every_picture_arrives_unchanged(
        width in 1_u16..70, height in 1_u16..40, seed in any::<u32>(), detail in 1_u32..20, colours in 1_u32..5
    ) {
        let picture = screen(width, height, |x, y| noise((x / detail) ^ seed, y / detail) % colours * 0x0012_3457);
        assert_same(&shown(&picture), &picture);
    }
}

/// A text-like screen with noise in a corner, drawn in three messages, and a pointer: read by the UI's tests too.
#[test]
fn the_golden_messages_are_what_the_canvas_is_tested_with() {
    let picture = screen(96, 48, |x, y| {
        if x >= 64 && y >= 24 {
            noise(x, y) & 0xff_ffff
        } else if noise(x / 3, y / 5).is_multiple_of(4) {
            0xdd_eeff
        } else {
            0x10_1418
        }
    });
    let mut encoder = PictureEncoder::default();
    let halves = [Rect { x: 0, y: 0, width: 96, height: 20 }, Rect { x: 0, y: 20, width: 50, height: 28 }];
    let messages = [
        size(96, 48),
        encoder.encode(&picture, &halves),
        encoder.encode(&picture, &[Rect { x: 50, y: 20, width: 46, height: 28 }]),
        cursor(Rect { x: 1, y: 2, width: 2, height: 3 }, &(0_u8..24).collect::<Vec<_>>()),
    ];
    let mut canvas = Canvas::default();
    for message in &messages[..3] {
        canvas.draw(&words(message));
    }
    assert_same(&canvas, &picture);
    // Each message after its length, then the picture they make.
    let mut golden = Vec::new();
    for message in &messages {
        golden.extend(u32::try_from(message.len()).unwrap().to_le_bytes());
        golden.extend_from_slice(message);
    }
    golden.extend(canvas.pixels.iter().flat_map(|pixel| pixel.to_le_bytes()));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/messages.bin");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &golden).unwrap();
    }
    assert!(std::fs::read(path).unwrap() == golden, "run with UPDATE_GOLDEN=1 and look at what changed");
}
