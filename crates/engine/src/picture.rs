//! Pictures of the screen: PNG read, made small by averaging, written.

use std::io::Cursor;

use voidvm_model::{ErrorBody, ErrorCode};

/// The widest a small picture is, and the highest.
pub(crate) const SMALL: (u32, u32) = (320, 240);
/// No screen has more pixels on a side.
const SIDE_MAX: u32 = 16_384;

/// A picture of 8-bit red, green and blue.
pub(crate) struct Pixels {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

fn broken(reason: impl std::fmt::Display) -> ErrorBody {
    ErrorBody::new(ErrorCode::ConsoleUnavailable, "The picture cannot be read.")
        .with_detail("reason", reason.to_string())
}

/// Width and height of a PNG.
pub(crate) fn size(png: &[u8]) -> Result<(u32, u32), ErrorBody> {
    let reader = png::Decoder::new(Cursor::new(png)).read_info().map_err(broken)?;
    Ok((reader.info().width, reader.info().height))
}

impl Pixels {
    pub(crate) fn decode(png: &[u8]) -> Result<Self, ErrorBody> {
        let mut decoder = png::Decoder::new(Cursor::new(png));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().map_err(broken)?;
        let mut bytes = vec![0; reader.output_buffer_size().ok_or_else(|| broken("too large"))?];
        let info = reader.next_frame(&mut bytes).map_err(broken)?;
        let (width, height) = (info.width, info.height);
        if width == 0 || height == 0 || width > SIDE_MAX || height > SIDE_MAX {
            return Err(broken(format!("{width}x{height}")));
        }
        let pixels = bytes.get(..info.buffer_size()).unwrap_or_default();
        let rgb = match info.color_type {
            png::ColorType::Rgb => pixels.to_vec(),
            png::ColorType::Rgba => pixels.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
            png::ColorType::Grayscale => pixels.iter().flat_map(|p| [*p; 3]).collect(),
            png::ColorType::GrayscaleAlpha => pixels.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
            png::ColorType::Indexed => return Err(broken("a palette that was not expanded")),
        };
        if rgb.len() != width as usize * height as usize * 3 {
            return Err(broken("cut short"));
        }
        Ok(Self { width, height, rgb })
    }

    /// Made to fit [`SMALL`], its shape kept; each pixel the average of those it stands for. A small one stays as it is.
    pub(crate) fn shrink(self) -> Self {
        let (wide, high) = (u64::from(self.width), u64::from(self.height));
        let (most_wide, most_high) = (u64::from(SMALL.0), u64::from(SMALL.1));
        if wide <= most_wide && high <= most_high {
            return self;
        }
        let (width, height) = if wide * most_high >= high * most_wide {
            (most_wide, (high * most_wide / wide).max(1))
        } else {
            ((wide * most_high / high).max(1), most_high)
        };
        let mut rgb = Vec::with_capacity((width * height * 3).try_into().unwrap_or(0));
        for y in 0..height {
            let rows = y * high / height..((y + 1) * high / height).max(y * high / height + 1);
            for x in 0..width {
                let columns = x * wide / width..((x + 1) * wide / width).max(x * wide / width + 1);
                rgb.extend(self.average(rows.clone(), columns));
            }
        }
        let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Self { width: narrow(width), height: narrow(height), rgb }
    }

    fn average(&self, rows: std::ops::Range<u64>, columns: std::ops::Range<u64>) -> [u8; 3] {
        let mut sum = [0_u64; 3];
        let count = (rows.end - rows.start) * (columns.end - columns.start);
        for row in rows {
            let start =
                usize::try_from((row * u64::from(self.width) + columns.start) * 3).unwrap_or(usize::MAX);
            let end = usize::try_from((row * u64::from(self.width) + columns.end) * 3).unwrap_or(usize::MAX);
            for pixel in self.rgb.get(start..end).unwrap_or_default().chunks_exact(3) {
                for (sum, value) in sum.iter_mut().zip(pixel) {
                    *sum += u64::from(*value);
                }
            }
        }
        sum.map(|sum| u8::try_from(sum / count.max(1)).unwrap_or(u8::MAX))
    }

    pub(crate) fn encode(&self) -> Result<(Vec<u8>, (u32, u32)), ErrorBody> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header().map_err(broken)?;
        writer.write_image_data(&self.rgb).map_err(broken)?;
        writer.finish().map_err(broken)?;
        Ok((bytes, (self.width, self.height)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chequered(width: u32, height: u32) -> Pixels {
        let rgb = (0..width * height)
            .flat_map(|at| if (at % width + at / width).is_multiple_of(2) { [0; 3] } else { [254, 254, 254] })
            .collect();
        Pixels { width, height, rgb }
    }

    #[test]
    fn a_large_screen_is_made_small_by_averaging_and_keeps_its_shape() {
        let (png, size) = chequered(1280, 800).shrink().encode().unwrap();
        assert_eq!(size, (320, 200));
        let again = Pixels::decode(&png).unwrap();
        assert!(again.rgb.iter().all(|value| *value == 127), "grey everywhere");
        assert_eq!(chequered(100, 2000).shrink().encode().unwrap().1, (12, 240));
        assert_eq!(chequered(2000, 3).shrink().encode().unwrap().1, (320, 1));
    }

    #[test]
    fn a_small_screen_stays_and_garbage_is_refused() {
        let (png, size) = chequered(64, 48).shrink().encode().unwrap();
        assert_eq!((size, super::size(&png).unwrap()), ((64, 48), (64, 48)));
        assert!(Pixels::decode(&png[..png.len() / 2]).is_err());
        assert!(Pixels::decode(b"not a picture").is_err());
    }
}
