//! A CD of a few small files: ISO 9660 with Joliet, whose names Linux, the BSDs and Windows all read.
//!
//! ```text
//! sector  16 primary descriptor │ 17 Joliet descriptor │ 18 end
//!         19, 20 path tables (primary: little, big endian) │ 21, 22 (Joliet)
//!         23 root directory (primary) │ 24 root directory (Joliet) │ 25 … files
//! ```
//! The date is constant: the same content is the same file.

const SECTOR: usize = 2048;
const FIRST_FILE: usize = 25;
/// A directory of one sector, as both are.
const DIRECTORY: usize = SECTOR;
/// 1 January 2000, in the seven bytes of a directory record.
const DATE: [u8; 7] = [100, 1, 1, 0, 0, 0, 0];

/// A file of the CD.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its name: letters, digits, `-`, `_`, `.`; 30 at most. Two of the same name make a broken CD.
    pub name: &'a str,
    /// What is in it.
    pub content: &'a [u8],
}

#[derive(Clone, Copy, PartialEq)]
enum Names {
    Primary,
    Joliet,
}

/// The bytes of the CD, a whole number of sectors. At most 16 files of together 1 GiB.
#[must_use]
pub fn image(label: &str, entries: &[Entry<'_>]) -> Vec<u8> {
    let mut sorted: Vec<Entry<'_>> = entries.iter().take(16).copied().collect();
    sorted.sort_by_key(|entry| entry.name);
    let mut at = FIRST_FILE;
    let placed: Vec<(Entry<'_>, usize)> = sorted
        .into_iter()
        .map(|entry| {
            let here = at;
            at += entry.content.len().div_ceil(SECTOR).max(1);
            (entry, here)
        })
        .collect();
    let mut bytes = vec![0; at * SECTOR];
    let mut put = |sector: usize, content: &[u8]| {
        bytes[sector * SECTOR..sector * SECTOR + content.len()].copy_from_slice(content);
    };
    put(16, &descriptor(Names::Primary, label, at));
    put(17, &descriptor(Names::Joliet, label, at));
    put(18, b"\xffCD001\x01");
    for (sector, root, big) in [(19, 23, false), (20, 23, true), (21, 24, false), (22, 24, true)] {
        put(sector, &path_table(root, big));
    }
    put(23, &directory(Names::Primary, 23, &placed));
    put(24, &directory(Names::Joliet, 24, &placed));
    for (entry, sector) in &placed {
        put(*sector, entry.content);
    }
    bytes
}

/// The files of a CD that [`image`] made; `None` of anything else.
#[must_use]
pub(crate) fn files(image: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let joliet = image.get(17 * SECTOR..18 * SECTOR)?;
    if !joliet.starts_with(b"\x02CD001\x01") || joliet.get(88..91)? != b"%/E" {
        return None;
    }
    let root = placed(image, joliet.get(156..190)?)?;
    let mut files = Vec::new();
    let mut rest = root;
    while let Some(length @ 1..) = rest.first().map(|length| usize::from(*length)) {
        let (record, next) = rest.split_at_checked(length)?;
        rest = next;
        let name_length = usize::from(*record.get(32)?);
        // The directory itself and the one above have names of one byte.
        if name_length > 1 {
            let name = record.get(33..33 + name_length)?;
            let name = name.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            files
                .push((String::from_utf16(&name.collect::<Vec<_>>()).ok()?, placed(image, record)?.to_vec()));
        }
    }
    Some(files)
}

/// What a directory's record says where it is.
fn placed<'a>(image: &'a [u8], record: &[u8]) -> Option<&'a [u8]> {
    let number = |at: usize| {
        let bytes = record.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let at = number(2)?.checked_mul(SECTOR)?;
    image.get(at..at.checked_add(number(10)?)?)
}

/// A number in both byte orders, as the format likes it.
fn both32(value: usize) -> [u8; 8] {
    let value = u32::try_from(value).unwrap_or(u32::MAX);
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    bytes[4..].copy_from_slice(&value.to_be_bytes());
    bytes
}

const fn both16(value: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (value.to_le_bytes(), value.to_be_bytes());
    [a, b, c, d]
}

fn ucs2(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

fn descriptor(names: Names, label: &str, sectors: usize) -> Vec<u8> {
    let joliet = names == Names::Joliet;
    let mut bytes = vec![0; SECTOR];
    let mut put = |at: usize, content: &[u8]| bytes[at..at + content.len()].copy_from_slice(content);
    put(0, if joliet { b"\x02CD001\x01" } else { b"\x01CD001\x01" });
    // Text fields are filled up with spaces, in Joliet of two bytes each.
    let mut text = |at: usize, length: usize, content: &str| {
        let mut field = if joliet { ucs2(content) } else { content.as_bytes().to_vec() };
        field.truncate(length);
        while field.len() < length {
            if joliet && field.len() + 1 < length {
                field.push(0);
            }
            field.push(b' ');
        }
        put(at, &field);
    };
    text(8, 32, "");
    text(40, 32, label);
    for (at, length) in [(190, 128), (318, 128), (446, 128), (574, 128), (702, 37), (739, 37), (776, 37)] {
        text(at, length, "");
    }
    put(80, &both32(sectors));
    if joliet {
        // UCS-2 level 3.
        put(88, b"%/E");
    }
    put(120, &both16(1));
    put(124, &both16(1));
    put(128, &both16(2048));
    put(132, &both32(10));
    let (little, root) = if joliet { (21_u32, 24) } else { (19, 23) };
    put(140, &little.to_le_bytes());
    put(148, &(little + 1).to_be_bytes());
    put(156, &record(&[0], root, DIRECTORY, true));
    for at in [813, 830, 847, 864] {
        put(at, b"2000010100000000\0");
    }
    put(881, &[1]);
    bytes
}

/// The root alone.
fn path_table(root: u32, big: bool) -> Vec<u8> {
    let mut bytes = vec![1, 0];
    if big {
        bytes.extend(root.to_be_bytes());
        bytes.extend([0, 1]);
    } else {
        bytes.extend(root.to_le_bytes());
        bytes.extend([1, 0]);
    }
    bytes.extend([0, 0]);
    bytes
}

fn directory(names: Names, sector: usize, placed: &[(Entry<'_>, usize)]) -> Vec<u8> {
    let mut bytes = record(&[0], sector, DIRECTORY, true);
    bytes.extend(record(&[1], sector, DIRECTORY, true));
    for (entry, at) in placed {
        let name = match names {
            Names::Primary => format!("{};1", entry.name.to_ascii_uppercase()).into_bytes(),
            Names::Joliet => ucs2(entry.name),
        };
        bytes.extend(record(&name, *at, entry.content.len(), false));
    }
    bytes.truncate(DIRECTORY);
    bytes
}

fn record(name: &[u8], sector: usize, length: usize, directory: bool) -> Vec<u8> {
    let name_length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    let padded = 33 + name.len() + usize::from(name.len().is_multiple_of(2));
    let mut bytes = vec![u8::try_from(padded).unwrap_or(u8::MAX), 0];
    bytes.extend(both32(sector));
    bytes.extend(both32(length));
    bytes.extend(DATE);
    bytes.extend([if directory { 2 } else { 0 }, 0, 0]);
    bytes.extend(both16(1));
    bytes.push(name_length);
    bytes.extend(name);
    bytes.resize(padded, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn other_programs_read_its_label_names_and_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed.iso");
        let large = vec![b'x'; 5000];
        let files = [
            Entry { name: "user-data", content: &large },
            Entry { name: "meta-data", content: b"instance-id: a\n" },
            Entry { name: "empty", content: b"" },
        ];
        std::fs::write(&path, image("CIDATA", &files)).unwrap();
        let Ok(output) = Command::new("isoinfo").args(["-J", "-f", "-i"]).arg(&path).output() else {
            // Checked where the program is: it comes with the packages of the small guest.
            return;
        };
        let listed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(listed.lines().collect::<Vec<_>>(), ["/empty", "/meta-data", "/user-data"]);
        for (name, content) in [("user-data", &large[..]), ("meta-data", b"instance-id: a\n")] {
            let read = |tree: &[&str], name: &str| {
                Command::new("isoinfo")
                    .args(tree)
                    .args(["-x", name, "-i"])
                    .arg(&path)
                    .output()
                    .unwrap()
                    .stdout
            };
            assert_eq!(read(&["-J"], &format!("/{name}")), content);
            assert_eq!(read(&[], &format!("/{};1", name.to_uppercase())), content);
        }
        let about = Command::new("isoinfo").args(["-d", "-i"]).arg(&path).output().unwrap();
        let about = String::from_utf8(about.stdout).unwrap();
        assert!(about.contains("Volume id: CIDATA"), "{about}");
        assert!(about.contains("Joliet with UCS level 3 found"), "{about}");
    }

    #[test]
    fn what_was_written_is_read_again_and_nothing_else_is() {
        let large = vec![b'x'; 5000];
        let made = image(
            "CIDATA",
            &[Entry { name: "user-data", content: &large }, Entry { name: "none", content: b"" }],
        );
        let read = files(&made).unwrap();
        assert_eq!(read, [("none".to_owned(), Vec::new()), ("user-data".to_owned(), large)]);
        assert!(files(b"seed").is_none() && files(&vec![0; 64 * SECTOR]).is_none());
        // A cut or damaged one is refused, and never read past its end.
        for length in (0..made.len()).step_by(SECTOR) {
            assert!(files(&made[..length]).is_none(), "{length}");
        }
        for at in [17 * SECTOR + 158, 24 * SECTOR + 68, 24 * SECTOR + 78, 24 * SECTOR + 100] {
            let mut damaged = made.clone();
            damaged[at..at + 4].fill(0xff);
            let _ = files(&damaged);
        }
    }

    #[test]
    fn it_is_whole_sectors_and_the_same_every_time() {
        let files = [Entry { name: "a", content: b"b" }];
        let one = image("CIDATA", &files);
        assert_eq!(one.len() % SECTOR, 0);
        assert_eq!(one, image("CIDATA", &files));
    }
}
