//! The screen: 640x480, a colour that runs across it. As a picture file, and to a viewer over RFB 3.8 without a password.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const WIDTH: u16 = 640;
const HEIGHT: u16 = 480;

/// Red, green, blue at a place.
fn pixel(x: u16, y: u16) -> [u8; 3] {
    let scaled =
        |value: u16, of: u16| u8::try_from(u32::from(value) * 255 / u32::from(of)).unwrap_or(u8::MAX);
    [scaled(x, WIDTH), scaled(y, HEIGHT), 0x60]
}

/// Writes the picture, as `png` or `ppm`.
pub(crate) fn dump(path: &Path, format: &str) -> io::Result<()> {
    let mut pixels = Vec::with_capacity(usize::from(WIDTH) * usize::from(HEIGHT) * 3);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            pixels.extend_from_slice(&pixel(x, y));
        }
    }
    let mut file = BufWriter::new(File::create(path)?);
    if format == "png" {
        let mut encoder = png::Encoder::new(file, WIDTH.into(), HEIGHT.into());
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&pixels)?;
        writer.finish()?;
        return Ok(());
    }
    write!(file, "P6\n{WIDTH} {HEIGHT}\n255\n")?;
    file.write_all(&pixels)?;
    file.flush()
}

/// One viewer, until it goes.
pub(crate) fn serve(mut viewer: UnixStream) -> io::Result<()> {
    viewer.write_all(b"RFB 003.008\n")?;
    read::<12>(&mut viewer)?;
    // One kind of security: none; it succeeds.
    viewer.write_all(&[1, 1])?;
    read::<1>(&mut viewer)?;
    viewer.write_all(&[0; 4])?;
    read::<1>(&mut viewer)?;
    let mut hello = Vec::new();
    hello.extend_from_slice(&WIDTH.to_be_bytes());
    hello.extend_from_slice(&HEIGHT.to_be_bytes());
    // 32 bits, depth 24, little-endian, true colour, 255 each, blue lowest.
    hello.extend_from_slice(&[32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]);
    hello.extend_from_slice(&4_u32.to_be_bytes());
    hello.extend_from_slice(b"fake");
    viewer.write_all(&hello)?;
    let mut step = 0_u16;
    loop {
        match read::<1>(&mut viewer)?[0] {
            0 => drop(read::<19>(&mut viewer)?),
            2 => {
                let [_, high, low] = read(&mut viewer)?;
                for _ in 0..u16::from_be_bytes([high, low]) {
                    read::<4>(&mut viewer)?;
                }
            }
            3 => {
                let incremental = read::<9>(&mut viewer)?[0] != 0;
                if incremental {
                    // A strip that moves, ten times a second.
                    std::thread::sleep(Duration::from_millis(100));
                    step = (step + 16) % HEIGHT;
                    viewer.write_all(&update(step, 16))?;
                } else {
                    viewer.write_all(&update(0, HEIGHT))?;
                }
            }
            4 => drop(read::<7>(&mut viewer)?),
            5 => drop(read::<5>(&mut viewer)?),
            6 => {
                let [.., a, b, c, d] = read::<7>(&mut viewer)?;
                let length = i32::from_be_bytes([a, b, c, d]).unsigned_abs();
                io::copy(&mut (&mut viewer).take(length.into()), &mut io::sink())?;
            }
            255 => drop(read::<11>(&mut viewer)?),
            other => return Err(io::Error::other(format!("message {other}"))),
        }
    }
}

fn read<const N: usize>(viewer: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    viewer.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// One rectangle over the whole width, raw.
fn update(top: u16, height: u16) -> Vec<u8> {
    let mut message = vec![0, 0, 0, 1];
    for part in [0, top, WIDTH, height] {
        message.extend_from_slice(&part.to_be_bytes());
    }
    message.extend_from_slice(&0_i32.to_be_bytes());
    for y in top..top + height {
        for x in 0..WIDTH {
            let [red, green, blue] = pixel(x, y);
            message.extend_from_slice(&[blue, green, red, 0]);
        }
    }
    message
}
