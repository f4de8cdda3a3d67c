//! The image library.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use voidvm_model::contract::Empty;
use voidvm_model::image::{
    CatalogueEntry, ImageDownloadRequest, ImageImportRequest, ImageRef, ImageState, ImageUpdateRequest,
    ImportMode, LibraryImage, Verification,
};
use voidvm_model::{ErrorBody, ErrorCode, Operation};

use super::create::absolute;
use crate::client::Client;
use crate::output::{Format, document, line, printable, table};

/// IMAGE is an image's name or id.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// List the images of the library.
    List,
    /// Show one image.
    Show {
        /// Name or id.
        image: String,
    },
    /// List the well-known images that can be downloaded.
    Catalogue,
    /// Bring a disk image or ISO into the library; packed ones are unpacked.
    Import(Import),
    /// Fetch an image into the library; one that was cut before is gone on with.
    Download(Download),
    /// Give an image another name.
    Rename {
        /// Name or id.
        image: String,
        /// The new name.
        name: String,
    },
    /// Remove an image that no machine uses, and its file where that is the library's own.
    Delete {
        /// Name or id.
        image: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// qcow2, raw, VMDK, VDI, VHDX or ISO; also packed with gzip, xz, zstd or bzip2.
    file: PathBuf,
    /// Its name in the library; the file's without.
    #[arg(long)]
    name: Option<String>,
    /// Move the file into the library.
    #[arg(long = "move", conflicts_with = "in_place")]
    moved: bool,
    /// Use the file where it is.
    #[arg(long)]
    in_place: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Download {
    /// An address, or an id of the catalogue.
    #[arg(value_name = "URL")]
    what: String,
    /// Its name in the library.
    #[arg(long)]
    name: Option<String>,
    /// The SHA-256 it must have.
    #[arg(long, value_name = "SUM")]
    sha256: Option<String>,
    /// The SHA-512 it must have.
    #[arg(long, value_name = "SUM")]
    sha512: Option<String>,
    /// A SHA256SUMS or SHA512SUMS file that names it.
    #[arg(long, value_name = "URL")]
    checksum_url: Option<String>,
    /// The signature of that file.
    #[arg(long, value_name = "URL", requires = "checksum_url")]
    signature_url: Option<String>,
    /// Another address of the same file; may be repeated.
    #[arg(long = "mirror", value_name = "URL")]
    mirrors: Vec<String>,
}

pub(crate) async fn image(command: ImageCommand, client: &Client, format: Format) -> Result<(), ErrorBody> {
    match command {
        ImageCommand::List => list(client, format).await,
        ImageCommand::Show { image } => show(&find(client, &image).await?, format),
        ImageCommand::Catalogue => catalogue(client, format).await,
        ImageCommand::Import(args) => import(args, client, format).await,
        ImageCommand::Download(args) => download(args, client, format).await,
        ImageCommand::Rename { image, name } => {
            let id = find(client, &image).await?.id;
            let request = ImageUpdateRequest { id, name: Some(name), description: None };
            show(&client.call("image.update", &request).await?, format)
        }
        ImageCommand::Delete { image } => delete(&image, client, format).await,
    }
}

async fn images(client: &Client) -> Result<Vec<LibraryImage>, ErrorBody> {
    client.call("image.list", &Empty::default()).await
}

async fn find(client: &Client, image: &str) -> Result<LibraryImage, ErrorBody> {
    let images = images(client).await?;
    let found = images
        .iter()
        .find(|one| one.name == image)
        .or_else(|| images.iter().find(|one| one.id.to_string() == image));
    found.cloned().ok_or_else(|| {
        ErrorBody::new(ErrorCode::NotFound, format!("The library has no image “{image}”."))
            .with_field("image")
            .with_hint("See them with: voidvm image list")
    })
}

async fn list(client: &Client, format: Format) -> Result<(), ErrorBody> {
    let images = images(client).await?;
    if format == Format::Json {
        return document(&images);
    }
    if images.is_empty() {
        return line("No images yet. See what there is with: voidvm image catalogue");
    }
    let rows = images.into_iter().map(|image| {
        let users = users(&image);
        let os = image.os.map(|os| os.name).unwrap_or_default();
        let (taken, size) = (image.size.to_string(), image.virtual_size.to_string());
        vec![
            image.name,
            image.kind.as_str().to_owned(),
            state(image.state).to_owned(),
            taken,
            size,
            os,
            users,
        ]
    });
    line(table(&["name", "kind", "state", "on disk", "size", "system", "used by"], rows))
}

fn users(image: &LibraryImage) -> String {
    image.used_by.iter().map(|user| user.name.as_str()).collect::<Vec<_>>().join(", ")
}

const fn state(state: ImageState) -> &'static str {
    match state {
        ImageState::Ready => "ready",
        ImageState::Missing => "missing",
        ImageState::Changed => "changed",
    }
}

fn show(image: &LibraryImage, format: Format) -> Result<(), ErrorBody> {
    if format == Format::Json {
        return document(image);
    }
    let verified = match image.verified {
        Verification::None => "not checked",
        Verification::Checksum => "checksum",
        Verification::Signature => "checksum and signature",
    };
    let mut rows = vec![
        ("name", image.name.clone()),
        ("id", image.id.to_string()),
        ("kind", image.kind.as_str().to_owned()),
        ("state", state(image.state).to_owned()),
        ("size", format!("{}, {} on disk", image.virtual_size, image.size)),
        ("path", image.path.clone()),
    ];
    rows.extend(image.os.iter().map(|os| ("system", os.name.clone())));
    rows.extend(image.sha256.iter().map(|sum| ("sha256", sum.clone())));
    rows.extend(image.source.iter().map(|source| ("source", source.clone())));
    if image.source.is_some() {
        rows.push(("checked", verified.to_owned()));
    }
    if !image.used_by.is_empty() {
        rows.push(("used by", users(image)));
    }
    line(table(&[], rows.into_iter().map(|(key, value)| vec![key.to_owned(), printable(&value)])))
}

async fn catalogue(client: &Client, format: Format) -> Result<(), ErrorBody> {
    let entries: Vec<CatalogueEntry> = client.call("image.catalogue", &Empty::default()).await?;
    if format == Format::Json {
        return document(&entries);
    }
    let rows = entries.into_iter().map(|entry| {
        let there = if entry.image.is_some() { "yes" } else { "" };
        let size = entry.size.map(|size| size.to_string()).unwrap_or_default();
        let cloud = entry.user.unwrap_or_default();
        vec![entry.id, entry.name, entry.kind.as_str().to_owned(), size, cloud, there.to_owned()]
    });
    line(table(&["id", "name", "kind", "about", "cloud-init user", "in library"], rows))
}

async fn import(args: Import, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let mode = match (args.moved, args.in_place) {
        (true, _) => ImportMode::Move,
        (false, true) => ImportMode::InPlace,
        (false, false) => ImportMode::Copy,
    };
    let request = ImageImportRequest { path: absolute("path", &args.file)?, mode, name: args.name };
    finish(client.call("image.import", &request).await?, client, format).await
}

async fn download(args: Download, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let (url, catalogue_id) = if args.what.contains("://") {
        (args.what, None)
    } else {
        let entries: Vec<CatalogueEntry> = client.call("image.catalogue", &Empty::default()).await?;
        let entry = entries.into_iter().find(|entry| entry.id == args.what).ok_or_else(|| {
            ErrorBody::new(
                ErrorCode::NotFound,
                format!("“{}” is no address and not in the catalogue.", args.what),
            )
            .with_field("url")
            .with_hint("See the catalogue with: voidvm image catalogue")
        })?;
        (entry.url, Some(entry.id))
    };
    let request = ImageDownloadRequest {
        url,
        mirrors: args.mirrors,
        name: args.name,
        sha256: args.sha256,
        sha512: args.sha512,
        checksum_url: args.checksum_url,
        signature_url: args.signature_url,
        catalogue_id,
    };
    finish(client.call("image.download", &request).await?, client, format).await
}

/// Waits for the image, and shows it.
async fn finish(operation: Operation, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let done = client.finish(operation).await?;
    let id =
        done.image_id.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "The operation names no image."))?;
    let image: LibraryImage = client.call("image.get", &ImageRef { id }).await?;
    match format {
        Format::Json => document(&image),
        Format::Text => line(format_args!("{}: {}", printable(&image.name), printable(&image.path))),
    }
}

async fn delete(image: &str, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let image = find(client, image).await?;
    let operation: Operation = client.call("image.delete", &ImageRef { id: image.id }).await?;
    client.finish(operation).await?;
    match format {
        Format::Json => document(&json!({ "id": image.id, "name": image.name, "state": "deleted" })),
        Format::Text if image.owned => {
            line(format_args!("{}: removed, {} freed", printable(&image.name), image.size))
        }
        Format::Text => line(format_args!("{}: removed; its file stays", printable(&image.name))),
    }
}
