//! Checksum files: which checksum a file must have.
//!
//! ```text
//! HEX  NAME          coreutils (Debian, Ubuntu, Arch); also `HEX *NAME` and `./NAME`
//! SHA256 (NAME) = HEX   BSD (Fedora, AlmaLinux, Rocky)
//! HEX                nothing but the checksum
//! ```

/// What a file must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    /// SHA-256 in lower-case hexadecimal.
    pub(super) sha256: Option<String>,
    /// SHA-512.
    pub(super) sha512: Option<String>,
}

impl Expected {
    pub(super) const fn is_none(&self) -> bool {
        self.sha256.is_none() && self.sha512.is_none()
    }

    fn set(&mut self, digest: &str) {
        let digest = digest.to_ascii_lowercase();
        match digest.len() {
            64 => self.sha256 = Some(digest),
            _ => self.sha512 = Some(digest),
        }
    }
}

/// One line: the checksum, and the name it is for where it says one.
fn line(text: &str) -> Option<(&str, Option<&str>)> {
    let text = text.trim();
    let plain = |digest: &str| {
        matches!(digest.len(), 64 | 128) && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let (digest, name) = match text.strip_prefix("SHA256 (").or_else(|| text.strip_prefix("SHA512 (")) {
        Some(rest) => {
            let (name, digest) = rest.rsplit_once(") = ")?;
            (digest.trim(), Some(name))
        }
        None => match text.split_once(char::is_whitespace) {
            Some((digest, name)) => (digest, Some(name.trim_start().trim_start_matches('*'))),
            None => (text, None),
        },
    };
    plain(digest).then(|| (digest, name.map(|name| name.rsplit('/').next().unwrap_or(name))))
}

/// The checksum of the file `name` in a checksum file, and the file's real name where `name` holds a `*`: then it is the newest
/// of that pattern. A file with a single checksum is about the one file it lies beside, whatever it calls it.
pub(super) fn find(text: &str, name: &str) -> Option<(String, Expected)> {
    let lines: Vec<_> = text.lines().filter_map(line).collect();
    let newest = lines
        .iter()
        .filter_map(|(_, named)| *named)
        .filter(|named| fits(name, named))
        .max_by(|one, other| order(one).cmp(&order(other)));
    let mut expected = Expected::default();
    match newest {
        Some(newest) => {
            for (digest, _) in lines.iter().filter(|(_, named)| *named == Some(newest)) {
                expected.set(digest);
            }
            Some((newest.to_owned(), expected))
        }
        None if lines.len() == 1 && !name.contains('*') => {
            expected.set(lines[0].0);
            Some((name.to_owned(), expected))
        }
        None => None,
    }
}

/// Whether a name fits a pattern with one `*` at most.
fn fits(pattern: &str, name: &str) -> bool {
    pattern.split_once('*').map_or(pattern == name, |(start, end)| {
        name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
    })
}

/// A name such that newer versions in it are greater: numbers count as numbers.
fn order(name: &str) -> Vec<(u64, String)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (word, after) = after.split_at(letters);
        parts.push((number.parse().unwrap_or(0), word.to_owned()));
        rest = after;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_distributions_form_is_read() {
        let (a, b) = ("a".repeat(64), "B".repeat(128));
        let debian = format!("{b}  debian-12-generic-amd64.qcow2\n{b}  debian-12-generic-amd64.raw\n");
        let ubuntu = format!("{} *jammy.img\n{a} *noble.img\n", "c".repeat(64));
        let fedora = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# F.qcow2: 5 bytes\nSHA256 (F.qcow2) = {a}\n\
             SHA256 (G.qcow2) = {}\n-----BEGIN PGP SIGNATURE-----\n\niQIzBAEB\n",
            "d".repeat(64)
        );
        let arch = format!("{a}  ./Arch.qcow2\nd41d8cd98f00b204e9800998ecf8427e  Arch.qcow2\n");
        for (text, name, expected) in [
            (
                &debian,
                "debian-12-generic-amd64.qcow2",
                Expected { sha512: Some(b.to_lowercase()), sha256: None },
            ),
            (&ubuntu, "noble.img", Expected { sha256: Some(a.clone()), sha512: None }),
            (&fedora, "F.qcow2", Expected { sha256: Some(a.clone()), sha512: None }),
            (&arch, "Arch.qcow2", Expected { sha256: Some(a.clone()), sha512: None }),
            (&format!("{a}\n"), "anything", Expected { sha256: Some(a.clone()), sha512: None }),
            (
                &format!("{a}  build-19.qcow2\n"),
                "latest.qcow2",
                Expected { sha256: Some(a.clone()), sha512: None },
            ),
        ] {
            assert_eq!(find(text, name), Some((name.to_owned(), expected)), "{text}");
        }
        for (text, name) in [(debian.as_str(), "other"), ("", "x"), ("<html>", "x"), (&ubuntu, "oble.img")] {
            assert_eq!(find(text, name), None);
        }
    }

    #[test]
    fn a_pattern_takes_the_newest() {
        let sums: String = ["24.04.9", "24.04.10", "24.04"]
            .iter()
            .map(|version| format!("{} *ubuntu-{version}-live-server-amd64.iso\n", "e".repeat(64)))
            .collect();
        let (name, _) = find(&sums, "ubuntu-24.04*-live-server-amd64.iso").unwrap();
        assert_eq!(name, "ubuntu-24.04.10-live-server-amd64.iso");
        assert_eq!(find(&sums, "ubuntu-26.04*.iso"), None);
    }
}
