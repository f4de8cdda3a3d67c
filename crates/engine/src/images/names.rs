//! What an image is called, among people and in the directory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use voidvm_model::system::ImageKind;
use voidvm_model::{ErrorBody, ErrorCode, ImageId};

use super::lock;
use crate::shared::Shared;

const NAME_MAX: usize = 100;

/// A name or address that nobody else gets while this is there.
#[derive(Debug)]
pub(super) struct Promise {
    promised: Arc<Mutex<BTreeSet<String>>>,
    key: String,
}

impl Drop for Promise {
    fn drop(&mut self) {
        lock(&self.promised).remove(&self.key);
    }
}

/// Keeps a key, unless somebody has it.
pub(super) fn promise(shared: &Shared, key: String) -> Option<Promise> {
    let promised = Arc::clone(&shared.images.promised);
    let new = lock(&promised).insert(key.clone());
    new.then_some(Promise { promised, key })
}

/// Keeps the wanted name, or one made of `from` that is free.
///
/// # Errors
/// [`ErrorCode::NameTaken`], [`ErrorCode::InvalidInput`], or the store's.
pub(super) async fn reserve(
    shared: &Shared,
    wanted: Option<&str>,
    from: &str,
) -> Result<(String, Promise), ErrorBody> {
    if let Some(wanted) = wanted {
        check(wanted)?;
    }
    let base: String = from.chars().filter(|c| !c.is_control()).take(NAME_MAX - 6).collect();
    let base = if base.trim().is_empty() { "image" } else { base.trim() };
    for number in 1..10_000 {
        let name = match (wanted, number) {
            (Some(wanted), _) => wanted.to_owned(),
            (None, 1) => base.to_owned(),
            (None, number) => format!("{base} {number}"),
        };
        // Promised first, then looked up: whoever has it now either still has the promise or has written his row.
        if let Some(promise) = promise(shared, format!("name {name}")) {
            let rows = shared.store.images().list().await.map_err(|error| error.body())?;
            if rows.iter().all(|row| row.name != name) {
                return Ok((name, promise));
            }
        }
        if wanted.is_some() {
            return Err(taken(&name));
        }
    }
    Err(taken(base))
}

/// Another image has the name.
pub(super) fn taken(name: &str) -> ErrorBody {
    ErrorBody::new(ErrorCode::NameTaken, format!("An image named “{name}” exists already."))
        .with_field("name")
        .with_hint("Choose another name.")
}

/// Whether people can tell the name apart from others.
///
/// # Errors
/// [`ErrorCode::InvalidInput`] with the field.
pub(super) fn check(name: &str) -> Result<(), ErrorBody> {
    let fits = !name.is_empty()
        && name.trim() == name
        && name.chars().count() <= NAME_MAX
        && !name.chars().any(char::is_control);
    if fits {
        return Ok(());
    }
    Err(ErrorBody::invalid("name", "An image cannot be called that.")
        .with_hint("Use 1 to 100 characters, without spaces at the ends."))
}

/// A name of a file or address without directories and the endings of formats.
pub(super) fn of_file(file: &str) -> String {
    const ENDINGS: [&str; 15] = [
        ".gz", ".xz", ".zst", ".bz2", ".qcow2", ".img", ".raw", ".iso", ".vmdk", ".vdi", ".vhdx", ".vhd",
        ".disk", ".tmp", ".bin",
    ];
    let mut name = file.rsplit('/').next().unwrap_or(file);
    while let Some(shorter) = ENDINGS.iter().find_map(|ending| {
        let at = name.len().checked_sub(ending.len()).filter(|at| *at > 0)?;
        name.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(ending)).then(|| &name[..at])
    }) {
        name = shorter;
    }
    name.to_owned()
}

/// Where the library keeps an image: for people to recognise, and no other image's.
pub(super) fn file(dir: &Path, id: ImageId, name: &str, kind: ImageKind) -> PathBuf {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '_' { c.to_ascii_lowercase() } else { '-' })
        .take(60)
        .collect();
    let plain = plain.trim_matches(['-', '.']);
    let plain = if plain.is_empty() { "image" } else { plain };
    let id = id.0.simple().to_string();
    let ending = match kind {
        ImageKind::Iso => "iso",
        ImageKind::Raw => "img",
        other => other.as_str(),
    };
    dir.join(format!("{plain}-{}.{ending}", &id[id.len() - 8..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_files() {
        for (file, name) in [
            ("/a/b/debian-12-genericcloud-amd64.qcow2", "debian-12-genericcloud-amd64"),
            ("https://x/y/Fedora.raw.xz", "Fedora"),
            ("disk.IMG.GZ", "disk"),
            (".iso", ".iso"),
            ("plain", "plain"),
        ] {
            assert_eq!(of_file(file), name);
        }
    }

    #[test]
    fn files_are_plain_and_lie_in_the_directory() {
        let dir = Path::new("/d");
        for name in ["Debian 12 / x", "../../etc/passwd", "…", "-rf", "a\u{202e}b"] {
            let file = file(dir, ImageId::new(), name, ImageKind::Qcow2);
            assert_eq!(file.parent(), Some(dir), "{name}");
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(name.is_ascii() && !name.starts_with(['.', '-']), "{name}");
        }
    }
}
