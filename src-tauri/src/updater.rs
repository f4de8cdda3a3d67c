//! Updates of the app itself: looked for and installed only when the person asks.
//!
//! Off unless there is an endpoint (a setting) and a public key (built in by whoever makes the release, never a
//! setting: who may change settings must not be able to have a package of his own installed). The signature covers the
//! package and the version it is for, so neither can be exchanged, nor an old release passed off as a new one.
//!
//! ```text
//! off | current | available ─install─► downloaded and verified ─► installed ─restart─►
//!                                  └─ refused: UpdateRejected, nothing is written
//! ```

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tauri::ipc::Channel;
use tauri::{AppHandle, Manager as _, Runtime, State, Url};
use tauri_plugin_updater::{Error, Update, UpdaterBuilder, UpdaterExt as _};
use voidvm_model::{ErrorBody, ErrorCode};

use voidvm_tray::Engine;

/// How long the endpoint may take to answer, and a package to arrive.
const PATIENCE: Duration = Duration::from_secs(300);

/// The update that was found last and may be installed.
#[derive(Default)]
pub(crate) struct Found(Mutex<Option<Update>>);

/// What looking for an update came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub(crate) enum UpdateState {
    /// Nobody is asked.
    Off {
        /// Why.
        reason: OffReason,
    },
    /// This is the newest version.
    Current {
        /// This version.
        version: String,
    },
    /// There is a newer one.
    Available {
        /// Its version.
        version: String,
        /// This version.
        current: String,
        /// What is new in it, as plain text.
        notes: Option<String>,
    },
}

/// Why updates are off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OffReason {
    /// No endpoint is configured.
    NoEndpoint,
    /// This build carries no key to verify a package with.
    NoKey,
}

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Progress {
    /// Bytes that have arrived.
    downloaded: u64,
    /// Bytes in all, where the server says.
    total: Option<u64>,
}

pub(crate) fn manage(app: &AppHandle) {
    app.manage(Found::default());
}

/// Looks for an update at the configured endpoint.
///
/// # Errors
/// `ConfigInvalid` for an endpoint that is no https address, `NetworkFailed`, `UpdateRejected` for a useless answer.
#[tauri::command]
pub(crate) async fn updater_check(
    app: AppHandle,
    engine: State<'_, Engine>,
    found: State<'_, Found>,
) -> Result<UpdateState, ErrorBody> {
    let endpoint = engine.settings().await?.update_endpoint;
    let (state, update) = check(&app, &endpoint).await?;
    *found.0.lock().unwrap_or_else(PoisonError::into_inner) = update;
    Ok(state)
}

/// Downloads, verifies and installs the update found last; the system asks for an administrator's password.
///
/// # Errors
/// `NotFound` when none was found, `UpdateRejected` when the signature does not hold, `PermissionDenied` when the
/// password was not given.
#[tauri::command]
pub(crate) async fn updater_install(
    found: State<'_, Found>,
    channel: Channel<Progress>,
) -> Result<(), ErrorBody> {
    let update = found.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(update) = update else {
        return Err(ErrorBody::new(ErrorCode::NotFound, "no update has been found yet"));
    };
    let package = download(&update, |progress| drop(channel.send(progress))).await?;
    tauri::async_runtime::spawn_blocking(move || update.install(package).map_err(body)).await.map_err(
        |error| ErrorBody::new(ErrorCode::Internal, format!("the installation ended early: {error}")),
    )?
}

/// Ends this process and starts the version that has been installed.
#[tauri::command]
#[expect(clippy::needless_pass_by_value, reason = "the form in which Tauri gives arguments")]
pub(crate) fn updater_restart(app: AppHandle) {
    app.request_restart();
}

async fn check<R: Runtime>(
    app: &AppHandle<R>,
    endpoint: &str,
) -> Result<(UpdateState, Option<Update>), ErrorBody> {
    let off = |reason| Ok((UpdateState::Off { reason }, None));
    if endpoint.is_empty() {
        return off(OffReason::NoEndpoint);
    }
    let built_in = app.config().plugins.0.get("updater").and_then(|config| config.get("pubkey"));
    if built_in.and_then(|key| key.as_str()).is_none_or(str::is_empty) {
        return off(OffReason::NoKey);
    }
    let url = Url::parse(endpoint).map_err(|error| {
        ErrorBody::new(ErrorCode::ConfigInvalid, format!("the update endpoint is no address: {error}"))
            .with_field("updateEndpoint")
    })?;
    let updater =
        app.updater_builder().timeout(PATIENCE).endpoints(vec![url]).and_then(UpdaterBuilder::build);
    let update = updater.map_err(body)?.check().await.map_err(body)?;
    let state = match &update {
        None => UpdateState::Current { version: app.package_info().version.to_string() },
        Some(update) => UpdateState::Available {
            version: update.version.clone(),
            current: update.current_version.clone(),
            notes: update.body.clone(),
        },
    };
    Ok((state, update))
}

/// The package, whole and verified.
async fn download(update: &Update, mut report: impl FnMut(Progress)) -> Result<Vec<u8>, ErrorBody> {
    let mut downloaded = 0;
    let arrived = |bytes: usize, total| {
        downloaded += u64::try_from(bytes).unwrap_or_default();
        report(Progress { downloaded, total });
    };
    update.download(arrived, || {}).await.map_err(body)
}

#[expect(clippy::needless_pass_by_value, reason = "the form `map_err` takes")]
fn body(error: Error) -> ErrorBody {
    let code = match &error {
        Error::Minisign(_)
        | Error::Base64(_)
        | Error::SignatureUtf8(_)
        | Error::SignedVersionMismatch { .. }
        | Error::MissingSignedVersion
        | Error::InvalidUpdaterFormat
        | Error::Serialization(_)
        | Error::Semver(_) => ErrorCode::UpdateRejected,
        Error::Reqwest(_) | Error::Network(_) | Error::ReleaseNotFound | Error::Http(_) => {
            ErrorCode::NetworkFailed
        }
        Error::InsecureTransportProtocol | Error::UrlParse(_) => ErrorCode::ConfigInvalid,
        Error::AuthenticationFailed => ErrorCode::PermissionDenied,
        Error::TargetNotFound(_)
        | Error::TargetsNotFound(_)
        | Error::UnsupportedArch
        | Error::UnsupportedOs => ErrorCode::Unsupported,
        _ => ErrorCode::Internal,
    };
    let body = ErrorBody::new(code, error.to_string());
    match code {
        ErrorCode::UpdateRejected => {
            body.with_hint("Nothing was installed. Tell whoever publishes this update.")
        }
        ErrorCode::ConfigInvalid => {
            body.with_field("updateEndpoint").with_hint("The endpoint must be an https address.")
        }
        ErrorCode::PermissionDenied => body.with_hint("Installing takes an administrator's password."),
        _ => body,
    }
}

#[cfg(test)]
mod tests;
