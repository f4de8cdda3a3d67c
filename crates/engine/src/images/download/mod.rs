//! Downloads into the library.
//!
//! ```text
//! request ─▶ row of the operation ─▶ (answer) ─▶ turn among the builds
//!   ─▶ checksum file, its signature ─▶ the file, whole ─▶ checksum ─▶ unpacked, looked at, converted ─▶ placed
//! ```
//! Invariant: nothing comes into the library that is not what its checksum says, or that is no image. A part stays when the line
//! or the app fails, and is gone on with; it goes when somebody cancels, or when it turned out to be wrong.

mod checksum;
mod fetch;
mod signature;

use std::sync::Arc;

use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use sha2::{Digest, Sha256};
use voidvm_model::image::{ImageDownloadRequest, Verification};
use voidvm_model::system::ImageKind;
use voidvm_model::{ErrorBody, ErrorCode, ImageId, Operation, OperationKind, Origin};
use voidvm_qemu::image::{QemuImg, packing};

use self::checksum::Expected;
use self::fetch::{Assured, Part};
use self::signature::Verdict;
use super::catalogue::{self, Item};
use super::hash::{self, Also, Digests};
use super::import::{Incoming, settle, unpacked};
use super::names::{self, Promise};
use super::os;
use super::place::{self, Arrival};
use super::work::{Job, Stopped, carry_out};
use crate::ledger::{Cancel, Subject};
use crate::ops::files::io_error;
use crate::platform;
use crate::shared::Shared;

const REDIRECTS: usize = 10;
/// Checksum files of whole mirrors stay below this.
const SUMS_MAX: usize = 1 << 20;
const SIGNATURE_MAX: usize = 64 << 10;

struct Plan {
    id: ImageId,
    name: String,
    /// The address first, then its mirrors.
    urls: Vec<Url>,
    expected: Expected,
    checksum_url: Option<Url>,
    signature_url: Option<Url>,
    item: Option<Item>,
    client: Client,
    img: QemuImg,
    origin: Origin,
    /// Its name, and its address: nobody else fetches into the same part.
    _promises: [Promise; 2],
}

/// Checks a request and begins the work.
///
/// # Errors
/// What does not hold, with its field.
pub(super) async fn download(
    shared: &Arc<Shared>,
    request: ImageDownloadRequest,
    origin: Origin,
) -> Result<Operation, ErrorBody> {
    let (request, item) = fill(shared, request).await?;
    let url = address("url", &request.url)?;
    let mut urls = vec![url.clone()];
    for mirror in &request.mirrors {
        urls.push(address("mirrors", mirror)?);
    }
    let checksum_url = request.checksum_url.as_deref().map(|url| address("checksumUrl", url)).transpose()?;
    let signature_url =
        request.signature_url.as_deref().map(|url| address("signatureUrl", url)).transpose()?;
    if signature_url.is_some() && checksum_url.is_none() {
        return Err(ErrorBody::invalid(
            "signatureUrl",
            "A signature is of a checksum file, and none is given.",
        )
        .with_hint("Give the checksum file's address as well."));
    }
    if file_name(&url).contains('*') && checksum_url.is_none() {
        return Err(ErrorBody::invalid(
            "url",
            "An address with * needs a checksum file that names the files.",
        ));
    }
    let expected = Expected {
        sha256: digest("sha256", request.sha256, 64)?,
        sha512: digest("sha512", request.sha512, 128)?,
    };
    let img = platform::qemu_img(shared.preferences().qemu_binary)?;
    let client = client(shared, !expected.is_none() || checksum_url.is_some())?;
    let fetched = names::promise(shared, format!("url {url}"))
        .ok_or_else(|| ErrorBody::new(ErrorCode::Busy, "This address is being downloaded already."))?;
    let base = item.as_ref().map_or_else(|| names::of_file(&file_name(&url)), |item| item.entry.name.clone());
    let (name, named) = names::reserve(shared, request.name.as_deref(), &base).await?;
    if shared.closing.is_cancelled() {
        return Err(ErrorBody::new(ErrorCode::Busy, "voidVM is ending."));
    }
    let id = ImageId::new();
    let subject = Subject::Image(id, &name);
    let ticket =
        shared.ledger.open_operation(OperationKind::ImageDownload, subject, origin, Cancel::Heeded).await?;
    let operation = ticket.operation();
    let plan = Plan {
        id,
        name,
        urls,
        expected,
        checksum_url,
        signature_url,
        item,
        client,
        img,
        origin,
        _promises: [fetched, named],
    };
    let work = async move |shared: &Arc<Shared>, job: &mut Job| get(shared, plan, job).await;
    shared.builders.spawn(carry_out(Arc::clone(shared), ticket, work));
    operation.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "The operation was lost."))
}

/// Takes what the request leaves out from its catalogue entry.
async fn fill(
    shared: &Shared,
    mut request: ImageDownloadRequest,
) -> Result<(ImageDownloadRequest, Option<Item>), ErrorBody> {
    let Some(id) = request.catalogue_id.clone() else { return Ok((request, None)) };
    let own = shared.config.catalogue_file();
    let items = crate::engine::blocking(move || catalogue::read(own.as_deref())).await?;
    let item = items.into_iter().find(|item| item.entry.id == id).ok_or_else(|| {
        ErrorBody::new(ErrorCode::NotFound, format!("The catalogue has no entry “{id}”."))
            .with_field("catalogueId")
            .with_hint("Look at the catalogue for its entries.")
    })?;
    if request.url != item.entry.url && !item.entry.mirrors.contains(&request.url) {
        return Err(ErrorBody::invalid(
            "url",
            format!("It is not an address of the catalogue's entry “{id}”."),
        )
        .with_hint("Leave the entry out to download something else."));
    }
    if request.mirrors.is_empty() {
        let others = item.entry.mirrors.iter().chain([&item.entry.url]);
        request.mirrors = others.filter(|url| **url != request.url).cloned().collect();
    }
    request.checksum_url = request.checksum_url.or_else(|| item.entry.checksum_url.clone());
    request.signature_url = request.signature_url.or_else(|| item.entry.signature_url.clone());
    Ok((request, Some(item)))
}

fn address(field: &str, text: &str) -> Result<Url, ErrorBody> {
    let url = Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.filter(Url::has_host).ok_or_else(|| {
        ErrorBody::invalid(field, format!("{text:?} is no address to download from."))
            .with_hint("Use an address that begins with https:// or http://.")
    })
}

fn digest(field: &str, text: Option<String>, length: usize) -> Result<Option<String>, ErrorBody> {
    let Some(text) = text.map(|text| text.trim().to_ascii_lowercase()) else { return Ok(None) };
    if text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Some(text));
    }
    Err(ErrorBody::invalid(field, format!("A checksum of this kind has {length} hexadecimal digits.")))
}

/// The last part of an address, as a file would be called.
fn file_name(url: &Url) -> String {
    let name = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
    percent_encoding::percent_decode_str(name).decode_utf8_lossy().into_owned()
}

/// The same address with another file name.
fn renamed(url: &Url, name: &str) -> Url {
    let mut url = url.clone();
    if let Ok(mut parts) = url.path_segments_mut() {
        parts.pop().push(name);
    }
    url
}

fn client(shared: &Shared, checked: bool) -> Result<Client, ErrorBody> {
    // Whoever is second finds the same provider installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let redirects = Policy::custom(move |attempt| {
        let left_tls =
            attempt.previous().iter().any(|url| url.scheme() == "https") && attempt.url().scheme() != "https";
        if attempt.previous().len() > REDIRECTS {
            attempt.error("too many redirects")
        } else if left_tls && !checked {
            // With a checksum from elsewhere the way does not matter; without one it is all there is.
            attempt.error(
                "it leads from https to http, and there is no checksum to tell whether the file is right",
            )
        } else {
            attempt.follow()
        }
    });
    let timing = &shared.config.timing;
    Client::builder()
        .user_agent(concat!("voidVM/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(timing.download_stall)
        .read_timeout(timing.download_stall)
        .redirect(redirects)
        .build()
        .map_err(|error| ErrorBody::new(ErrorCode::Internal, format!("Downloads cannot be begun: {error}.")))
}

async fn get(shared: &Arc<Shared>, mut plan: Plan, job: &mut Job) -> Result<(), Stopped> {
    let incoming = Incoming::new(shared, plan.id).await?;
    let source = plan.urls[0].to_string();
    let signed = sums(shared, &mut plan, &incoming, job).await?;
    let assured = if plan.expected.is_none() { Assured::No } else { Assured::ByChecksum };
    let name = hash::hex(&Sha256::digest(plan.urls[0].as_str()));
    let part = Part::new(&shared.images.downloads(), &name[..32], incoming.room());
    let pause = shared.config.timing.download_pause;
    let mut resumed = std::fs::metadata(&part.path).is_ok_and(|metadata| metadata.len() > 0);
    let fetched = async {
        let mut mirrors = plan.urls.as_slice();
        loop {
            let from = fetch::fetch(&plan.client, mirrors, &part, assured, pause, job).await?;
            match check(&part, &plan.expected, job).await {
                Err(Stopped::Failed(failure)) if failure.error.code == ErrorCode::ChecksumMismatch => {
                    part.remove();
                    // Bytes of an earlier try may have been of another build: once more from the beginning. What one mirror
                    // has changed, another may have as it should be.
                    mirrors = if resumed { mirrors } else { &mirrors[from + 1..] };
                    resumed = false;
                    if mirrors.is_empty() {
                        return Err(Stopped::Failed(failure));
                    }
                }
                other => return other,
            }
        }
    };
    let digests = match fetched.await {
        Ok(digests) => digests,
        Err(stopped) => {
            if matches!(stopped, Stopped::Cancelled) && !shared.closing.is_cancelled() {
                part.remove();
            }
            return Err(stopped);
        }
    };
    let kept = keep(shared, &plan, &incoming, &part, digests, signed, source, job).await;
    if !matches!(kept, Err(Stopped::Cancelled)) || !shared.closing.is_cancelled() {
        part.remove();
    }
    kept
}

/// Gets the checksum file, checks its signature, and takes the file's checksum and real name from it. Whether it is signed.
async fn sums(shared: &Shared, plan: &mut Plan, incoming: &Incoming, job: &mut Job) -> Result<bool, Stopped> {
    let Some(url) = plan.checksum_url.clone() else { return Ok(false) };
    let pause = shared.config.timing.download_pause;
    let text = fetch::small(&plan.client, &url, SUMS_MAX, pause, job).await?;
    let mut text = String::from_utf8_lossy(&text).into_owned();
    let signature = match &plan.signature_url {
        Some(url) => Some(fetch::small(&plan.client, url, SIGNATURE_MAX, pause, job).await?),
        None => None,
    };
    let mut signed = false;
    if signature.is_some() || signature::is_clear_signed(&text) {
        let own = shared.config.config_dir.as_ref().map(|dir| dir.join("keyrings"));
        let mut keyrings = signature::own_keyrings(own.as_deref());
        let named = match &plan.item {
            Some(item) => item.keyrings.clone(),
            None => catalogue::built_in().into_iter().flat_map(|item| item.keyrings).collect(),
        };
        keyrings.extend(signature::keyrings(&named, own.as_deref()));
        keyrings.sort();
        keyrings.dedup();
        let scratch = ["sums", "sig", "plain"].map(|ending| incoming.file(ending));
        match signature::check(&text, signature.as_deref(), &keyrings, scratch).await? {
            Verdict::Good(said) => {
                text = said;
                signed = true;
            }
            Verdict::Unchecked(why) => {
                tracing::warn!(url = %url, why, "the signature of a download was not checked");
            }
        }
    }
    let wanted = file_name(&plan.urls[0]);
    let (name, found) = checksum::find(&text, &wanted).ok_or_else(|| {
        ErrorBody::new(ErrorCode::ChecksumMismatch, format!("The checksum file does not name {wanted}."))
            .with_field("checksumUrl")
            .with_hint("Check that the two addresses belong together.")
            .with_detail("url", url.as_str())
    })?;
    if name != wanted {
        plan.urls = plan.urls.iter().map(|url| renamed(url, &name)).collect();
    }
    let differs = |given: &Option<String>, found: &Option<String>| {
        given.as_ref().zip(found.as_ref()).is_some_and(|(given, found)| given != found)
    };
    if differs(&plan.expected.sha256, &found.sha256) || differs(&plan.expected.sha512, &found.sha512) {
        return Err(ErrorBody::new(
            ErrorCode::ChecksumMismatch,
            "The checksum that was given is not the one in the checksum file.",
        )
        .with_hint("One of them is of another build of the image.")
        .into());
    }
    plan.expected.sha256 = plan.expected.sha256.take().or(found.sha256);
    plan.expected.sha512 = plan.expected.sha512.take().or(found.sha512);
    Ok(signed)
}

/// Reads the fetched file through: whether it is what was expected.
async fn check(part: &Part, expected: &Expected, job: &mut Job) -> Result<Digests, Stopped> {
    let also = if expected.sha512.is_some() { Also::Sha512 } else { Also::Nothing };
    let (path, total) =
        (part.path.clone(), std::fs::metadata(&part.path).map_or(0, |metadata| metadata.len()));
    let digests =
        job.blocking(total, move |report| hash::digest(&path, also, &mut |_| report.goes_on())).await?;
    let wrong = |expected: &Option<String>, found: Option<&String>| {
        expected.as_ref().is_some_and(|expected| Some(expected) != found)
    };
    if wrong(&expected.sha256, Some(&digests.sha256)) || wrong(&expected.sha512, digests.sha512.as_ref()) {
        return Err(ErrorBody::new(
            ErrorCode::ChecksumMismatch,
            "The downloaded file is not what its checksum says.",
        )
        .with_hint("It was changed on its way, or there is a newer build: try again, or another mirror.")
        .with_detail("sha256", digests.sha256)
        .into());
    }
    Ok(digests)
}

/// Looks at the file, brings it into its form and places it.
#[expect(clippy::too_many_arguments, reason = "what a download has come to, step by step")]
async fn keep(
    shared: &Arc<Shared>,
    plan: &Plan,
    incoming: &Incoming,
    part: &Part,
    digests: Digests,
    signed: bool,
    source: String,
    job: &mut Job,
) -> Result<(), Stopped> {
    let path = part.path.clone();
    let packed = packing(&path).map_err(|error| io_error(&path, &error))?;
    let (file, info) = if let Some(packing) = packed {
        unpacked(incoming, &plan.img, &path, packing, job).await?
    } else {
        (path.clone(), plan.img.info(&path).await.map_err(|error| error.body())?)
    };
    let (way, kind, virtual_size) = settle(incoming, &plan.img, file, info, job).await?;
    let as_it_came = matches!(&way, place::Way::Rename(file) if *file == path);
    let os = match &plan.item {
        Some(item) if !item.entry.os.is_empty() => {
            Some(os::by_id(shared, &item.entry.os, &item.entry.name).await)
        }
        _ if kind == ImageKind::Iso => match &way {
            place::Way::Rename(file) | place::Way::Link(file) | place::Way::Stay(file) => {
                os::on_iso(shared, file).await
            }
        },
        _ => None,
    };
    if job.cancel.is_cancelled() {
        return Err(Stopped::Cancelled);
    }
    job.ticket.seal();
    let arrival = Arrival {
        id: plan.id,
        name: plan.name.clone(),
        kind,
        virtual_size,
        // Of the library's file, which is another one when it was unpacked.
        sha256: as_it_came.then_some(digests.sha256),
        verified: match (signed, plan.expected.is_none()) {
            (true, _) => Verification::Signature,
            (false, false) => Verification::Checksum,
            (false, true) => Verification::None,
        },
        os,
        cloud_init: plan.item.as_ref().is_some_and(|item| item.entry.cloud_init),
        source: Some(source),
    };
    place::place(shared, job.ticket.id(), plan.origin, arrival, way).await?;
    Ok(())
}
