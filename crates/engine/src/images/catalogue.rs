//! Well-known images: those that come with voidVM (`catalogue.toml` beside this), and the user's own.

use std::path::Path;

use serde::Deserialize;
use voidvm_model::image::CatalogueEntry;
use voidvm_model::system::ImageKind;
use voidvm_model::{Bytes, ErrorBody, ErrorCode, MiB};

use crate::ops::files::io_error;

const BUILT_IN: &str = include_str!("catalogue.toml");

/// An entry, with what only a download needs of it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) entry: CatalogueEntry,
    /// Files with the keys that may have signed it.
    pub(super) keyrings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    image: Vec<Image>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    id: String,
    name: String,
    #[serde(default)]
    os: String,
    kind: ImageKind,
    url: String,
    #[serde(default)]
    mirrors: Vec<String>,
    checksum_url: Option<String>,
    signature_url: Option<String>,
    #[serde(default)]
    keyrings: Vec<String>,
    #[serde(default)]
    cloud_init: bool,
    user: Option<String>,
    size: Option<u64>,
}

impl From<Image> for Item {
    fn from(image: Image) -> Self {
        Self {
            keyrings: image.keyrings,
            entry: CatalogueEntry {
                id: image.id,
                name: image.name,
                os: image.os,
                kind: image.kind,
                url: image.url,
                mirrors: image.mirrors,
                checksum_url: image.checksum_url,
                signature_url: image.signature_url,
                cloud_init: image.cloud_init,
                user: image.user,
                size: image.size.map(|mib| Bytes(MiB(mib).bytes().0)),
                image: None,
            },
        }
    }
}

/// The entries that come with voidVM.
pub(super) fn built_in() -> Vec<Item> {
    match toml::from_str::<File>(BUILT_IN) {
        Ok(file) => file.image.into_iter().map(Item::from).collect(),
        Err(error) => {
            // A test reads it.
            tracing::error!(%error, "the catalogue that comes with voidVM does not parse");
            Vec::new()
        }
    }
}

/// Every entry, the user's in the place of those with the same id, and after the others.
///
/// # Errors
/// [`ErrorCode::ConfigInvalid`] when the user's file does not parse; a file that is not there is none.
pub(super) fn read(own: Option<&Path>) -> Result<Vec<Item>, ErrorBody> {
    let mut items = built_in();
    let Some(own) = own else { return Ok(items) };
    let text = match std::fs::read_to_string(own) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(items),
        Err(error) => return Err(io_error(own, &error)),
    };
    let file: File = toml::from_str(&text).map_err(|error| {
        let shown = own.display();
        ErrorBody::new(ErrorCode::ConfigInvalid, format!("{shown} is not a catalogue: {}", error.message()))
            .with_hint("Mend the file, or move it away.")
            .with_detail("path", own.to_string_lossy().into_owned())
            .with_detail("reason", error.to_string())
    })?;
    for item in file.image.into_iter().map(Item::from) {
        match items.iter_mut().find(|other| other.entry.id == item.entry.id) {
            Some(other) => *other = item,
            None => items.push(item),
        }
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_comes_with_voidvm_is_sound() {
        let items = built_in();
        let ids: BTreeSet<_> = items.iter().map(|item| &item.entry.id).collect();
        assert!(items.len() >= 12 && ids.len() == items.len());
        for Item { entry, keyrings } in &items {
            for url in entry
                .mirrors
                .iter()
                .chain([&entry.url])
                .chain(&entry.checksum_url)
                .chain(&entry.signature_url)
            {
                assert!(url.starts_with("https://") && reqwest::Url::parse(url).is_ok(), "{url}");
            }
            assert!(!entry.url.contains('*') || entry.checksum_url.is_some(), "{}", entry.id);
            assert!(entry.signature_url.is_none() || !keyrings.is_empty(), "{}", entry.id);
            assert_eq!(entry.cloud_init, entry.user.is_some(), "{}", entry.id);
        }
    }

    #[test]
    fn users_add_and_replace() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("catalogue.toml");
        assert_eq!(read(Some(&own)).unwrap().len(), built_in().len());
        let image = |id: &str| {
            format!("[[image]]\nid = \"{id}\"\nname = \"Mine\"\nkind = \"iso\"\nurl = \"http://h/x.iso\"\n")
        };
        std::fs::write(&own, format!("{}{}", image("mine"), image("debian-12-cloud"))).unwrap();
        let items = read(Some(&own)).unwrap();
        assert_eq!(items.len(), built_in().len() + 1);
        assert_eq!(items.iter().filter(|item| item.entry.name == "Mine").count(), 2);
        std::fs::write(&own, "[[image]]\nid = 1\n").unwrap();
        assert_eq!(read(Some(&own)).unwrap_err().code, ErrorCode::ConfigInvalid);
    }
}
